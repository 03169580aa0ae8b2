"""Runs load on a stack; measures each part's CPU, and the machine's speed meanwhile."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean
from typing import Any

import uvloop

from loadtests.bench import client
from loadtests.bench.growth_stack import Stack, caught_up, cpu


def load(**task: Any) -> Any:
    """Run the load client in a process of its own; tasks are pickled, as orders may be many."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_load, task).result()


def _load(task: dict[str, Any]) -> Any:
    return uvloop.run(client.run(task))


def loaded(stack: Stack, **task: Any) -> dict[str, Any]:
    """Return a measurement, with CPU ms per request by part, and the time to catch up after."""
    before = cpu(stack)
    found: dict[str, Any] = load(port=stack.port, **task)
    found["drained_s"] = caught_up(stack)
    count = max(found["count"], 1)
    found["cpu_ms"] = {
        part: (used - before.get(part, 0.0)) * 1000 / count for part, used in cpu(stack).items()
    }
    return found


def _spin(_: int) -> float:
    began, total = time.perf_counter(), 0
    for number in range(2_000_000):
        total += number & 7
    return time.perf_counter() - began


def speed() -> float:
    """Return the iterations of a fixed loop per microsecond, on two cores at once.

    The speed of a virtual machine varies over the day: rows measured at different speeds cannot be
    compared directly.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(_spin, range(2)))  # both processes have started
        return 2.0 / fmean(pool.map(_spin, range(4)))
