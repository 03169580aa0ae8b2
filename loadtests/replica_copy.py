"""How long a new memory replica takes to start: copying a peer compared with replaying the log.

python -m loadtests.replica_copy [--events 1000000] [--rest 15]

Two replica actors on Ray over an embedded store that holds so many events of orders.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import ray

from eventstore.kurrentdb.log import EventLog
from eventstore.port import StreamAppend
from loadtests.order_streams import order_stream
from projections.memory.replica_actor import ReplicaActor
from rayfold import Registry
from rayfold.runtime.identity import Identity

LINES = 3
EVENTS = LINES + 2


def life() -> StreamAppend:
    """Return an order's events: created, three lines, placed."""
    return order_stream(LINES, placed=True)[1]


async def measure(uri: str, events: int, rest: float) -> None:
    """Print both times and their ratio."""
    log = EventLog(uri)
    for _ in range(events // EVENTS // 100):
        await log.append([life() for _ in range(100)])
    end = await log.end_position(["order-"])
    views = [
        view.name for view in Registry.load("domain").views.values() if "memory" in view.stores
    ]

    async def ready(peer: Any | None) -> tuple[Any, float]:
        actor: Any = (
            ray.remote(ReplicaActor)
            .options(num_cpus=0, max_concurrency=100)
            .remote("measured", "domain", views, uri, None, Identity("", "", ""))
        )
        await actor.status.remote()  # the process has started; what follows is the state
        since = time.perf_counter()
        await actor.start.remote(peer)
        while await actor.reached.remote(end, 60) < end:
            pass
        return actor, time.perf_counter() - since

    first, replay = await ready(None)
    rows = (await first.status.remote())["rows"]
    await asyncio.sleep(rest)
    _, copy = await ready(first)
    print(f"events               {events:>10,}")
    print(f"rows                 {sum(rows.values()):>10,}")
    print(f"by replay            {replay:>10.1f} s")
    print(f"by copy of a peer    {copy:>10.1f} s")
    print(f"ratio                {replay / copy:>10.1f}   (at least 20 at 1,000,000)")
    await log.close()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        "--rest",
        type=float,
        default=15.0,
        help="seconds until the first keeps as JSON only what has not changed lately",
    )
    options = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = os.getcwd()
    with tempfile.TemporaryDirectory() as data:
        store = subprocess.Popen(
            [sys.executable, "-m", "eventstore.embedded", "--port", "0", "--data", data],
            stdout=subprocess.PIPE,
        )
        assert store.stdout is not None
        uri = store.stdout.readline().decode().strip()
        try:
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
            asyncio.run(measure(uri, options.events, options.rest))
        finally:
            ray.shutdown()
            store.terminate()
            store.wait()


if __name__ == "__main__":
    main()
