"""The scenarios that every contender runs, and their measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadtests.bench.contenders import Server
from loadtests.bench.usage import cpu_of, memory_bytes, processes

ORDERS = 300
LINES = 3
WARM = 1.0


class Scenario(NamedTuple):
    """`work` is a kind of work of `client`, with this number of clients at once.

    "write" writes to event-sourced orders, "stored" to state-stored customers. "read" reads orders
    in memory, "redis" and "postgres" customers in those stores.
    """

    name: str
    work: str
    clients: int


SCENARIOS = [
    Scenario("write@1", "write", 1),
    Scenario("write@32", "write", 32),
    Scenario("write@128", "write", 128),
    Scenario("hot@32", "hot", 32),
    Scenario("stored@1", "stored", 1),
    Scenario("stored@128", "stored", 128),
    Scenario("read@32", "read", 32),
    Scenario("read@128", "read", 128),
    Scenario("redis@32", "redis", 32),
    Scenario("redis@128", "redis", 128),
    Scenario("postgres@32", "postgres", 32),
]


def ask_client(**task: Any) -> Any:
    """Run the load client, whose CPU is not counted as the server's."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.bench.client", json.dumps(task)],
        capture_output=True,
        timeout=180,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


def run_all(server: Server, seconds: float, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Run every scenario, or some, against one server, on orders of its own."""
    results = {}
    orders = ask_client(port=server.port, work="seed", orders=ORDERS, lines=LINES)
    hot = ask_client(port=server.port, work="seed", orders=1, lines=LINES)
    customers = ask_client(port=server.port, work="seed customers", customers=ORDERS)
    shown = ask_client(port=server.port, work="seed", orders=ORDERS, lines=LINES)
    known = ask_client(port=server.port, work="seed customers", customers=ORDERS)
    of_work = {"hot": hot, "read": shown, "stored": customers, "redis": known, "postgres": known}
    for scenario in SCENARIOS:
        if only and scenario.name not in only:
            continue
        # With every contender, reads are of orders with `LINES` lines, whatever was written before.
        on = of_work.get(scenario.work, orders)
        task = {"port": server.port, "orders": on, **scenario._asdict()}
        ask_client(**task, seconds=WARM)
        results[scenario.name] = measured(server, task, seconds)
    return results


def measured(server: Server, task: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return one measurement, with CPU milliseconds per request, and memory in bytes."""
    before = cpu_of(server.pid, server.folder)
    found: dict[str, Any] = ask_client(**task, seconds=seconds)
    time.sleep(0.5)  # what was written is still being projected: that counts too
    used = cpu_of(server.pid, server.folder) - before
    found["cpu_ms"] = used * 1000 / max(found["count"], 1)
    found["memory"] = memory_bytes(processes(server.pid, server.folder))
    found["failed"] = sum(
        count for status, count in found["statuses"].items() if status not in ("200", "202")
    )
    return found


def lags(server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Measure the time from receipt to visibility in each store, at a steady rate of writes."""
    orders = ask_client(port=server.port, work="seed", orders=ORDERS, lines=LINES)
    task = {"port": server.port, "orders": orders, "work": "lag", "rate": rate}
    return {
        store: ask_client(**task, seconds=seconds, store=store) for store in ("memory", "postgres")
    }
