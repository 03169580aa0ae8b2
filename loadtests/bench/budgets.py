"""The budgets of the design (section 10), as ratios of medians over the rounds of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from loadtests.bench.telemetry import Telemetry

Medians = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By contender, scenario and measure."""


class Budget(NamedTuple):
    """`value` is None where it was not measured; the note says why."""

    name: str
    value: float | None
    bound: float
    at_least: bool
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return `pass`, `short` or `not measured`."""
        if self.value is None:
            return "not measured"
        met = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "pass" if met else "short"


def budgets(
    medians: Medians,
    lag: Mapping[str, Any],
    rebuild: Mapping[str, float],
    copy: float | None,
    idle: float | None,
    telemetry: Telemetry | None,
) -> list[Budget]:
    """Return all of them."""
    ours, crud, noop = medians["rayfold"], medians["crud"], medians["noop"]

    def rate(scenario: str, other: Mapping[str, Mapping[str, Any]]) -> float:
        return float(ours[scenario]["per_second"] / other[scenario]["per_second"])

    peers = "by ../shared/peers/run_all.py only"
    found = [
        Budget("writes@128 / CRUD", rate("write@128", crud), 2, True),
        Budget("hot aggregate@32 / CRUD", rate("hot@32", crud), 8, True),
        Budget("writes@128 / eventsourcing_py", None, 4, True, peers),
        Budget("writes@128 / emmett_node", None, 6, True, peers),
        Budget("reads@32 / no-op", rate("read@32", noop), 0.6, True),
        Budget("reads@128 / no-op", rate("read@128", noop), 0.6, True),
        Budget("reads@32 / CRUD", rate("read@32", crud), 2, True),
        Budget("reads@128 / CRUD", rate("read@128", crud), 2, True),
        Budget(
            "a write alone, median latency / CRUD",
            ours["write@1"]["p50_ms"] / crud["write@1"]["p50_ms"],
            3,
            False,
        ),
        Budget(
            "CPU of a write@128 / CRUD",
            ours["write@128"]["cpu_ms"] / crud["write@128"]["cpu_ms"],
            0.7,
            False,
        ),
    ]
    for store, bound in (("memory", 10), ("postgres", 20)):
        at = lag[store]
        found.append(
            Budget(
                f"lag p99 in {store} at half of peak / median command latency",
                at["lag"]["p99_ms"] / at["p50_ms"],
                bound,
                False,
                f"{at['lag']['p99_ms']:.1f} ms / {at['p50_ms']:.1f} ms at {at['per_second']:.0f}/s",
            )
        )
    found.append(
        Budget(
            "rebuild of a Postgres view / the client reading the log",
            rebuild["ratio"],
            0.5,
            True,
            f"{rebuild['rebuild']:,.0f} / {rebuild['bare']:,.0f} events/s",
        )
    )
    found.append(Budget("new replica at 1,000,000 events / replay", copy, 20, True, _lacking(copy)))
    found.append(
        Budget("an idle aggregate beside its state, bytes", idle, 4096, False, _lacking(idle))
    )
    return found + telemetry_budgets(telemetry)


def telemetry_budgets(found: Telemetry | None) -> list[Budget]:
    """Return what tracing at the default rate may add to a write's CPU, measured in three ways."""
    what = "CPU of a write traced at the default rate / without"
    if found is None:
        return [Budget(what, None, 1.05, False, _lacking(None))]
    return [
        Budget(
            f"{what}, stacks in turns",
            found.default_ratio,
            1.05,
            False,
            f"±{found.default_spread:.3f} over the cycles",
        ),
        Budget(
            f"{what}, by what a span costs there",
            found.by_spans_ratio,
            1.05,
            False,
            f"{found.span_ms * 1000:.0f} µs a span, {found.default_spans:.3f} spans a write",
        ),
        Budget(
            f"{what}, by what one process needs more",
            found.alone_ratio,
            1.05,
            False,
            f"{found.alone.default_adds_us:.1f} µs more of {found.off_ms * 1000:.0f}",
        ),
    ]


def _lacking(figure: float | None) -> str:
    return "" if figure is not None else "left out by --quick, or it failed"
