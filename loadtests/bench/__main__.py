"""python -m loadtests.bench [--rounds 3] [--seconds 4] [--quick]: see `loadtests.bench`.

With `--only write@128 stored@128` these scenarios alone, of all contenders, and nothing is kept.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from statistics import median
from typing import Any

from loadtests.bench import growth, rebuilding, report, sagas, telemetry
from loadtests.bench.budgets import Rest, budgets
from loadtests.bench.contenders import NAMES, serving
from loadtests.bench.scenarios import SCENARIOS, lags, run_all
from loadtests.bench.usage import memory_bytes, processes

LAG_SECONDS = 6.0
SETTLE = 3.0
"""Seconds until a server that was just started is idle."""

COLD_EVENTS = 50_000
"""Events in the log, of a fifth as many orders, few of which are in memory when they are written
to.
"""

REBUILT = 200_000
COPY = ("loadtests.replica_copy", r"ratio +([\d.,]+)")
IDLE = ("loadtests.idle_aggregates", r"beside its state +([\d.,]+)")
"""Other load tests, with the pattern of the figure in their output."""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="without what takes minutes")
    parser.add_argument("--name", default="bench", help="of the files in loadtests/results")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[each.name for each in SCENARIOS], help="of them"
    )
    options = parser.parse_args()
    if options.only:
        compare(options.only, options.rounds, options.seconds)
        return
    rounds: dict[str, list[Any]] = {name: [] for name in NAMES}
    lag: dict[str, Any] = {}
    rests: list[Rest] = []
    for number in range(options.rounds):
        # A different contender goes first each time, as the machine's speed changes over a run.
        for name in NAMES[number % 3 :] + NAMES[: number % 3]:
            say(f"round {number + 1} of {options.rounds}: {name}")
            with serving(name) as server:
                if name == "rayfold":
                    time.sleep(SETTLE)
                    memory = memory_bytes(processes(server.pid, server.folder)) / 1e6
                    rests.append(Rest(server.started, memory))
                found = run_all(server, options.seconds)
                rounds[name].append(found)
                if name == "rayfold" and number == options.rounds - 1:
                    peak = median(one["write@128"]["per_second"] for one in rounds[name])
                    say(f"lag at {peak / 2:.0f} writes/s")
                    lag = lags(server, peak / 2, LAG_SECONDS)
    say(f"rebuild at {REBUILT:,} events")
    rebuild = rebuilding.measure(REBUILT if not options.quick else REBUILT // 10)
    copy = cold = idle = managed = traced = None
    if not options.quick:
        say("processes")
        managed = sagas.measure(options.seconds)
        say("telemetry")
        traced = telemetry.measure()
        say(f"aggregates that are not in memory, {COLD_EVENTS:,} events")
        grown = growth.measure_size(COLD_EVENTS, options.seconds)
        cold = grown["write_cold"]["per_second"] / grown["write_warm"]["per_second"]
        say("a new replica at 1,000,000 events")
        copy = figure(*COPY)
        say("idle aggregates")
        idle = figure(*IDLE)
    medians = report.medians_of(rounds)
    rest = Rest(*(median(each) for each in zip(*rests, strict=True)))
    judged = budgets(medians, rest, lag, rebuild, copy, cold, idle, traced)
    path = report.write(
        options.name,
        rounds,
        medians,
        judged,
        {
            "lag": lag,
            "rebuild": rebuild,
            "rest": [each._asdict() for each in rests],
            "processes": managed and managed._asdict(),
            "telemetry": traced and traced.figures(),
        },
    )
    sys.stdout.write(path.read_text())
    if managed:
        sys.stdout.write(f"\n{managed.lines()}")
    if traced:
        sys.stdout.write(f"\n{traced.lines()}")


def compare(scenarios: list[str], rounds: int, seconds: float) -> None:
    """Print the medians of some scenarios."""
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    for number in range(rounds):
        for name in NAMES[number % 3 :] + NAMES[: number % 3]:
            say(f"round {number + 1} of {rounds}: {name}")
            with serving(name) as server:
                found[name].append(run_all(server, seconds, scenarios))
    sys.stdout.write(report.table(report.medians_of(found), [], report.circumstances()))


def figure(module: str, pattern: str, *arguments: str) -> float | None:
    """Run another load test; return its figure, or None with a message if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True
    )
    found = re.search(pattern, done.stdout)
    if not found:
        say(f"{module} has no figure: {done.stdout}{done.stderr[-2000:]}")
        return None
    return float(found[1].replace(",", ""))


def say(line: str) -> None:
    """Print to standard error: only the table goes to standard output."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
