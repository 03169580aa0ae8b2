"""Growth on paper: `python -m loadtests.paper [--events 1e9] [--aggregates 1e7] [--nodes 100] …`.

Prints the tables of docs/explanation/growth.md. `--measured NAME=VALUE` gives a constant of one's
own, in seconds or bytes, as often as needed; `--bounds NAME=VALUE` a bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from loadtests.paper.flows import flows, plan
from loadtests.paper.measured import Bounds, Measured, Scenario
from loadtests.paper.simulation import MOST, Load, lost_host
from loadtests.paper.stocks import stocks

RATES = (100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SKEWS = (0.0, 0.8, 1.0)
HOSTS = (4, 16, 48, 64)
READS = 10
"""Reads per write, as in the load of `loadtests/locustfile.py`."""

Known = TypeVar("Known", Measured, Bounds)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; all columns but the first and the last are numbers."""
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 2)}---|"]
    return "\n".join([*lines, *(f"| {' | '.join(str(each) for each in row)} |" for row in rows)])


def told(value: float, unit: str) -> str:
    """Return a quantity in readable form."""
    if unit == "s":
        for seconds, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
            if value >= 2 * seconds:
                return f"{value / seconds:,.1f} {name}"
        return f"{value:,.0f} s"
    if unit == "B":
        return f"{value / 1e9:,.1f} GB"
    return f"{value:,.0f}"


def stocks_table(scenario: Scenario, measured: Measured, bounds: Bounds) -> str:
    """Return a table of how full everything is."""
    rows = [
        (
            *(each.name, told(each.needed, each.unit), told(each.bound, each.unit)),
            *(f"{each.filled:.2g}", each.grows_with, each.then),
        )
        for each in stocks(scenario, measured, bounds)
    ]
    return table(["what", "needs", "has", "times full", "grows with", "then"], rows)


def flows_table(measured: Measured, bounds: Bounds, balance: float, readers: int) -> str:
    """Return a table of how many writes each part handles."""

    def rate(value: float) -> str:
        return "no bound" if value == float("inf") else f"{value:,.0f}"

    rows = [
        (each.name, rate(each.one), rate(each.most), each.divided_by)
        for each in flows(measured, bounds, balance, readers)
    ]
    return table(["part", "one core, writes/s", "any number of them", "divided by"], rows)


def plans_table(scenario: Scenario, measured: Measured, bounds: Bounds, balance: float) -> str:
    """Return a table of what different rates need."""
    rows = []
    for rate in RATES:
        found = plan(rate, READS * rate, scenario, measured, bounds, balance)
        parts = (found.gateways, found.hosts, found.partitions, found.replicas)
        rows.append(
            (
                *(f"{rate:,}", f"{found.reads:,.0f}", found.stores, *parts, f"{found.cores:,.0f}"),
                f"{found.nodes} of {scenario.nodes}",
            )
        )
    heads = [
        "writes/s",
        "reads/s",
        "stores",
        "gateways",
        "hosts",
        "partitions",
        "replicas",
        "cores",
    ]
    return table([*heads, "nodes"], rows)


def spread_table(scenario: Scenario) -> str:
    """Return a table of how evenly hosts and stores are loaded."""
    rows = []
    for skew in SKEWS:
        load = Load(scenario.aggregates, skew)
        busiest = [f"{load.over_hosts(hosts).busiest:.2f}" for hosts in HOSTS]
        stores = load.over_partitions(8)
        rows.append((f"{skew:g}", *busiest, f"{stores.busiest:.2f}", f"{stores.hottest:.2%}"))
    heads = [f"{hosts} hosts" for hosts in HOSTS]
    return table(["skew", *heads, "8 stores", "the hottest aggregate"], rows)


def loss_table(scenario: Scenario, measured: Measured, hosts: Sequence[int] = (4, 16, 64)) -> str:
    """Return a table of the cost of losing one host, for these numbers of hosts."""
    rows = []
    for count in hosts:
        for busy in (0.3, 0.6):
            found = lost_host(count, busy, scenario.aggregates, 0.8, measured)
            seconds = f"{found.seconds:.1f}" if found.seconds < MOST else f"over {MOST:.0f}"
            rows.append((count, f"{busy:.0%}", found.inherited, f"{found.folded:,}", seconds))
    heads = ["hosts", "busy before", "shards that one heir takes", "aggregates that it folds"]
    return table([*heads, "seconds until nothing waits"], rows)


def changed(known: Known, changes: Iterable[str]) -> Known:
    """Return the constants with the given changes.

    Raises:
        SystemExit: there is no constant of that name.
    """
    names = {field.name: field.type for field in fields(known)}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in names:
            raise SystemExit(f"there is no constant {name}: choose one of {', '.join(names)}")
        values[name] = int(float(value)) if names[name] == "int" else float(value)
    return replace(known, **values)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Scenario):
        parser.add_argument(f"--{field.name}", type=float, default=field.default)
    parser.add_argument("--measured", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--bounds", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    given = {field.name: getattr(options, field.name) for field in fields(Scenario)}
    scenario = Scenario(**given | {"nodes": int(options.nodes), "cores": int(options.cores)})
    measured = changed(Measured(), options.measured)
    bounds = changed(Bounds(), options.bounds)
    balance = Load(scenario.aggregates, 0.8).over_hosts(min(scenario.nodes, bounds.hosts)).balance
    for title, text in (
        ("What is there", stocks_table(scenario, measured, bounds)),
        ("What a second brings", flows_table(measured, bounds, balance, readers=10)),
        ("What a rate needs", plans_table(scenario, measured, bounds, balance)),
        ("How even it is: the busiest, by the mean", spread_table(scenario)),
        ("What the loss of a host costs", loss_table(scenario, measured)),
    ):
        print(f"\n## {title}\n\n{text}")


if __name__ == "__main__":
    main()
