"""What processes cost: steps a second, CPU a step, and what they add to writes that concern none.

python -m loadtests.bench.sagas [--seconds 8] prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any, NamedTuple

import psutil

from loadtests.bench.contenders import Server, serving
from loadtests.bench.scenarios import ask_client
from loadtests.bench.usage import cpu_of, cpu_seconds, processes

CLIENTS = 32
ROUNDS = 3
DRAIN = 120.0
"""Seconds until processes have completed their work."""

ACTOR = "ray::ProcessActor"
WITHOUT = "domain.orders"
"""The reference domain's package without any process manager."""


class Sagas(NamedTuple):
    """CPU in milliseconds. `added_ms` is of a write that concerns no process, in both ways: the
    process actor's own, and the difference to a domain without process managers."""

    steps_per_second: float
    actor_ms_a_step: float
    all_ms_a_step: float
    fulfilments: int
    write_ms: float
    write_ms_without: float
    actor_ms_a_write: float

    def lines(self) -> str:
        """Return it for people."""
        added = self.write_ms - self.write_ms_without
        return (
            f"{self.steps_per_second:,.0f} process steps/s over {self.fulfilments} fulfilments;"
            f" CPU a step: {self.actor_ms_a_step:.2f} ms of the process actor,"
            f" {self.all_ms_a_step:.2f} ms of all parts, the commands of clients and processes"
            f" included. A write that concerns no process: {self.write_ms:.3f} ms of CPU, against"
            f" {self.write_ms_without:.3f} in a domain without process managers ({added:+.3f});"
            f" of the process actor's own {self.actor_ms_a_write:.4f}.\n"
        )


def measure(seconds: float) -> Sagas:
    """Measure fulfilments, then writes with and without process managers, in turns."""
    with serving("rayfold") as server:
        steps = _fulfil(server, seconds)
    with_them, without, actor = [], [], []
    for _ in range(ROUNDS):
        with serving("rayfold") as server:
            write, of_actor = _write(server, seconds)
            with_them.append(write)
            actor.append(of_actor)
        with _domain(WITHOUT), serving("rayfold") as server:
            without.append(_write(server, seconds)[0])
    return Sagas(*steps, median(with_them), median(without), median(actor))


def _fulfil(server: Server, seconds: float) -> tuple[float, float, float, int]:
    ask_client(port=server.port, work="stock")
    actor = _actors(server)
    before, actor_before = cpu_of(server.pid, server.folder), cpu_seconds(actor)
    began = time.perf_counter()
    done = ask_client(port=server.port, work="fulfil", clients=CLIENTS, seconds=seconds)
    steps = _drained(server)
    took = time.perf_counter() - began
    used = cpu_of(server.pid, server.folder) - before
    of_actor = cpu_seconds(actor) - actor_before
    return steps / took, of_actor * 1000 / steps, used * 1000 / steps, done["count"]


def _drained(server: Server) -> int:
    """Wait until no process is open; return the number of steps so far."""
    deadline = time.monotonic() + DRAIN
    while time.monotonic() < deadline:
        parts = [part for part in _status(server) if part["kind"] == "process"]
        if all("open" in part and not part["open"] for part in parts):
            return sum(part["steps"] for part in parts)
        time.sleep(0.2)
    raise RuntimeError("fulfilments do not end")


def _write(server: Server, seconds: float) -> tuple[float, float]:
    orders = ask_client(port=server.port, work="seed", orders=300, lines=3)
    task = {"port": server.port, "work": "write", "orders": orders, "clients": CLIENTS}
    ask_client(**task, seconds=1.0)
    actor = _actors(server)
    before, actor_before = cpu_of(server.pid, server.folder), cpu_seconds(actor)
    count = ask_client(**task, seconds=seconds)["count"]
    time.sleep(0.5)  # what was written is still being projected: that counts too
    used = cpu_of(server.pid, server.folder) - before
    of_actor = cpu_seconds(actor) - actor_before
    return used * 1000 / count, of_actor * 1000 / count


def _actors(server: Server) -> list[psutil.Process]:
    found = []
    for process in processes(server.pid, server.folder):
        with suppress(psutil.NoSuchProcess):
            if ACTOR in " ".join(process.cmdline()):
                found.append(process)
    return found


def _status(server: Server) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{server.port}/operators/status"
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["parts"]
        return found


@contextmanager
def _domain(package: str) -> Any:
    os.environ["RAYFOLD_DOMAIN"] = package
    try:
        yield
    finally:
        del os.environ["RAYFOLD_DOMAIN"]


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    sys.stdout.write(measure(parser.parse_args().seconds).lines())


if __name__ == "__main__":
    main()
