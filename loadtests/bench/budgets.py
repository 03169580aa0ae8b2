"""The budgets of the design (section 10), as ratios of medians over the rounds of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from loadtests.bench.telemetry import Telemetry

Medians = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By contender, scenario and measure."""

PEERS = "by ../shared/peers/run_all.py only"
LEFT_OUT = "left out by --quick, or it failed"


class Budget(NamedTuple):
    """A required figure: first `bound`, then `then`, if there is a next.

    `value` is None if it was not measured; the note says why.
    """

    name: str
    value: float | None
    bound: float
    then: float | None
    at_least: bool
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return `pass` with the bound that it reached, `short` or `not measured`."""
        if self.value is None:
            return "not measured"
        if not self._reaches(self.bound):
            return "short"
        return "pass" if self.then is None or not self._reaches(self.then) else "pass, next too"

    def _reaches(self, bound: float) -> bool:
        assert self.value is not None
        return self.value >= bound if self.at_least else self.value <= bound


class Rest(NamedTuple):
    """An idle server: seconds until it served, PSS of all processes in MB."""

    ready_s: float
    memory_mb: float


def at_least(
    name: str, value: float | None, bound: float, then: float | None = None, note: str = LEFT_OUT
) -> Budget:
    """Return the budget of a figure with a minimum; the note is for one that was not measured."""
    return Budget(name, value, bound, then, True, note if value is None else "")


def at_most(
    name: str, value: float | None, bound: float, then: float | None = None, note: str = LEFT_OUT
) -> Budget:
    """Return the budget of a figure with a maximum; see `at_least`."""
    return Budget(name, value, bound, then, False, note if value is None else "")


def budgets(
    medians: Medians,
    rest: Rest,
    lag: Mapping[str, Any],
    rebuild: Mapping[str, float],
    copy: float | None,
    cold: float | None,
    idle: float | None,
    telemetry: Telemetry | None,
) -> list[Budget]:
    """Return all budgets, in the order of section 10."""
    ours, crud, noop = medians["rayfold"], medians["crud"], medians["noop"]

    def rate(scenario: str, other: Mapping[str, Mapping[str, Any]]) -> float:
        return float(ours[scenario]["per_second"] / other[scenario]["per_second"])

    alone, cpu = ours["write@1"], ours["write@128"]["cpu_ms"] / crud["write@128"]["cpu_ms"]
    return [
        at_least("writes@128 / CRUD", rate("write@128", crud), 2, 3),
        at_least("writes@32 / CRUD", rate("write@32", crud), 1.3, 2),
        at_most("CPU of a write@128 / CRUD", cpu, 0.6, 0.4),
        at_least("hot aggregate@32 / no-op", rate("hot@32", noop), 0.4, 0.6),
        at_least("hot aggregate@32 / CRUD", rate("hot@32", crud), 2.5),
        at_least("writes@128 / eventsourcing_py", None, 4, 6, PEERS),
        at_least("writes@128 / emmett_node", None, 6, 10, PEERS),
        at_least("reads@32 / no-op", rate("read@32", noop), 1.1, 1.5),
        at_least("reads@128 / no-op", rate("read@128", noop), 1.1, 1.5),
        at_least("reads@32 / CRUD", rate("read@32", crud), 3, 4),
        at_least("reads@128 / CRUD", rate("read@128", crud), 3, 4),
        at_most(
            "a write alone, median latency / CRUD",
            alone["p50_ms"] / crud["write@1"]["p50_ms"],
            3,
            2,
        ),
        *(_lag(store, bound, lag[store]) for store, bound in (("memory", 2), ("postgres", 4))),
        Budget(
            "rebuild of a Postgres view / the client reading the log",
            rebuild["ratio"],
            1.5,
            None,
            True,
            f"{rebuild['rebuild']:,.0f} / {rebuild['bare']:,.0f} events/s",
        ),
        at_least("new replica at 1,000,000 events / replay", copy, 20),
        at_most(
            "restart at 1,000,000 events / at 1,000", None, 2, note="by make bench-growth only"
        ),
        at_least("cold writes@32 / warm", cold, 0.7),
        at_most("an idle aggregate beside its state, bytes", idle, 2_500),
        at_most("rayfold up at rest, PSS of all processes, MB", rest.memory_mb, 500, 400),
        at_most("rayfold up, seconds until ready", rest.ready_s, 6, 4),
        at_most("p99 of a write alone / its median", alone["p99_ms"] / alone["p50_ms"], 3),
        at_least(
            "two gateways and two hosts / one", None, 1.7, note="by loadtests.bench.cluster only"
        ),
        *telemetry_budgets(telemetry),
    ]


def _lag(store: str, bound: float, at: Mapping[str, Any]) -> Budget:
    return Budget(
        f"lag p99 in {store} at half of peak / median command latency",
        at["lag"]["p99_ms"] / at["p50_ms"],
        bound,
        None,
        False,
        f"{at['lag']['p99_ms']:.1f} ms / {at['p50_ms']:.1f} ms at {at['per_second']:.0f}/s",
    )


def telemetry_budgets(found: Telemetry | None) -> list[Budget]:
    """Return the budgets of tracing's extra CPU per write at the default rate, in three ways."""
    what = "CPU of a write traced at the default rate / without"
    if found is None:
        return [at_most(what, None, 1.05)]
    return [
        Budget(
            f"{what}, stacks in turns",
            found.default_ratio,
            1.05,
            None,
            False,
            f"±{found.default_spread:.3f} over the cycles; two without: {found.alike_ratio:.3f}",
        ),
        Budget(
            f"{what}, by what a span costs there",
            found.by_spans_ratio,
            1.05,
            None,
            False,
            f"{found.span_ms * 1000:.0f} µs a span, {found.default_spans:.3f} spans a write",
        ),
        Budget(
            f"{what}, by what one process needs more",
            found.alone_ratio,
            1.05,
            None,
            False,
            f"{found.alone.default_adds_us:.1f} µs more of {found.off_ms * 1000:.0f}",
        ),
    ]
