"""Growth curves: what a log's size, and the number of hosts, replicas and partitions, change.

python -m loadtests.bench.growth [--events 1000,10000,100000,1000000] [--seconds 3] [--scale]

Each size gets a fresh folder with a log of that many events of a fifth as many open orders.
Results are added to `loadtests/results/growth.json`, so that a run may do some sizes only;
`--scale` does hosts, replicas and partitions, at 10,000 events.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from loadtests.bench import growth_report
from loadtests.bench.growth_load import load, loaded, speed
from loadtests.bench.growth_stack import (
    Stack,
    ask,
    caught_up,
    cpu,
    disk_mb,
    fill,
    memory_mb,
    rested,
    running,
)

SIZES = [1_000, 10_000, 100_000, 1_000_000]
CLIENTS = 32
WARM = 100
"""Orders that are written to beforehand; the others are cold: only in the log."""
MOST_ORDERS = 50_000
"""The number of cold ones drawn at random: more than are written or read meanwhile."""

SCALED_EVENTS = 10_000
SCALED_CLIENTS = 64
SCALED_ORDERS = 300
"""A small number, so that orders that moved to another host are folded there before measuring."""
SCALED = {"write": "hosts", "memory": "memory replicas", "postgres": "Postgres partitions"}
COUNTS = [1, 2, 3]


def measure_size(events: int, seconds: float) -> dict[str, Any]:
    """Measure everything at one size of the log."""
    with tempfile.TemporaryDirectory(prefix="rf-growth-") as temporary:
        Path(temporary).chmod(0o755)
        data = Path(temporary) / "data"
        say(f"{events:,} events: filling")
        orders, took = fill(data, events)
        found: dict[str, Any] = {"events": events, "aggregates": len(orders), "fill_s": took}
        found["store_mb"] = disk_mb(data / "eventstore")
        say(f"{events:,} events: filled in {took:.1f} s; first start, every view folds the log")
        with running(data) as stack:
            found["first"] = _started(stack)
            found["postgres_mb"] = disk_mb(data / "postgres")
        say(f"first start {found['first']['ready_s']:.1f} s; again, Postgres is where it was")
        with running(data) as stack:
            found["again"] = _started(stack)
            found["rested_s"] = rested(stack)
            found["memory_rested_mb"] = memory_mb(stack)
            before = speed()
            random.shuffle(orders)
            warm, cold = orders[:WARM], orders[WARM:][:MOST_ORDERS]
            common = {"clients": CLIENTS, "seconds": seconds}
            say(f"again {found['again']['ready_s']:.1f} s; load")
            loaded(stack, work="write", orders=warm, clients=CLIENTS, seconds=1.0)
            found["write_warm"] = loaded(stack, work="write", orders=warm, **common)
            found["write_cold"] = loaded(stack, work="write", orders=cold, **common)
            written = found["write_cold"]["count"]
            found["write_cold"]["cold_share"] = min(len(cold) / max(written, 1), 1.0)
            random.shuffle(cold)
            found["read"] = loaded(stack, work="read", orders=cold, **common)
            found["memory_loaded_mb"] = memory_mb(stack)
            found["speed"] = fmean([before, speed()])
    return found


def _started(stack: Stack) -> dict[str, Any]:
    used = cpu(stack)
    return {
        "ready_s": stack.started,
        "views_s": stack.views,
        "behind_s": caught_up(stack),
        "cpu_s": used,
        "memory_mb": memory_mb(stack),
    }


def measure_scale(seconds: float) -> list[dict[str, Any]]:
    """Measure hosts, replicas and partitions: more of one of them, and one of the others."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rf-growth-") as temporary:
        Path(temporary).chmod(0o755)
        data = Path(temporary) / "data"
        orders, _ = fill(data, SCALED_EVENTS)
        orders = random.sample(orders, SCALED_ORDERS)
        with running(data) as stack:
            common = {"orders": orders, "clients": SCALED_CLIENTS}
            loaded(stack, work="write", seconds=2.0, **common)
            rate = 0.0
            for target, what in SCALED.items():
                for count in COUNTS:
                    say(f"{what}: {count}")
                    began = time.perf_counter()
                    if count > 1:
                        ask(stack, "/operators/scale", {"target": target, "n": count})
                    row: dict[str, Any] = {"what": what, "count": count}
                    row["scaled_s"] = time.perf_counter() - began
                    caught_up(stack)
                    # Moved orders are folded again.
                    loaded(stack, work="write", seconds=2.0, **common)
                    before = speed()
                    row["write"] = loaded(stack, work="write", seconds=seconds, **common)
                    row["read"] = loaded(stack, work="read", seconds=seconds, **common)
                    row["speed"] = fmean([before, speed()])
                    rate = rate or row["write"]["per_second"] / 2
                    for store in ("memory", "postgres"):
                        steady = {"work": "lag", "rate": rate, "seconds": 2.0, "store": store}
                        row[f"lag_{store}"] = load(port=stack.port, orders=orders, **steady)
                    row["memory_mb"] = memory_mb(stack)
                    rows.append(row)
                ask(stack, "/operators/scale", {"target": target, "n": 1})
    return rows


def say(line: str) -> None:
    """Print to standard error: only the tables go to standard output."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", default=",".join(map(str, SIZES)), help="sizes; may be empty")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--scale", action="store_true", help="hosts, replicas, partitions too")
    options = parser.parse_args()
    for size in filter(None, options.events.split(",")):
        growth_report.add_size(measure_size(int(size), options.seconds))
    if options.scale:
        growth_report.add_scale(measure_scale(options.seconds))
    sys.stdout.write(growth_report.write().read_text())


if __name__ == "__main__":
    main()
