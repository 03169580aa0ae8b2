"""Writes a run's results: JSON, a Markdown table, and plots, with machine, versions and commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.bench.answers import added
from loadtests.bench.budgets import Budget, Medians

RESULTS = Path(__file__).parent.parent / "results"

Rounds = Mapping[str, Sequence[Mapping[str, Mapping[str, Any]]]]
"""By contender: the scenarios of each round."""


def medians_of(rounds: Rounds) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the median of each measure over the rounds; failures are added up."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, found in rounds.items():
        result[name] = {}
        for scenario in found[0]:
            each = [one[scenario] for one in found]
            result[name][scenario] = {
                measure: median(one[measure] for one in each)
                for measure in ("per_second", "p50_ms", "p99_ms", "cpu_ms", "memory")
            } | {
                "failed": sum(one["failed"] for one in each),
                "failures": added(one["failures"] for one in each),
            }
    return result


def circumstances() -> dict[str, Any]:
    """Return the machine, versions and commit of the run."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    packages = ["ray", "litestar", "uvicorn", "kurrentdbclient", "grpcio", "asyncpg", "pydantic"]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": commit.stdout.strip() + ("+" if changed.stdout.strip() else ""),
    }


def table(medians: Medians, budgets: Sequence[Budget], where: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        f"{where['cores']} cores, {where['memory_gb']} GB, Python {where['python']},"
        f" commit {where['commit'][:12]}, {where['at']}. Medians over the rounds.",
        "",
        "| scenario | contender | requests/s | p50 ms | p99 ms | CPU ms | memory MB | failed |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for scenario in medians["rayfold"]:
        for name, found in medians.items():
            one = found[scenario]
            lines.append(
                f"| {scenario} | {name} | {one['per_second']:,.0f} | {one['p50_ms']:.2f} |"
                f" {one['p99_ms']:.1f} | {one['cpu_ms']:.3f} | {one['memory'] / 1e6:,.0f} |"
                f" {one['failed']} |"
            )
    lines += failures_in(medians)
    if budgets:
        lines += ["", "| budget | found | asked | next | |", "|---|--:|--:|--:|---|"]
    for budget in budgets:
        value = "" if budget.value is None else f"{budget.value:,.2f}"
        sign = "≥" if budget.at_least else "≤"
        then = "" if budget.then is None else f"{sign} {budget.then:,}"
        note = f" ({budget.note})" if budget.note else ""
        lines.append(
            f"| {budget.name} | {value} | {sign} {budget.bound:,} | {then} |"
            f" {budget.verdict}{note} |"
        )
    return "\n".join(lines) + "\n"


def failures_in(medians: Medians) -> list[str]:
    """Return the messages of failures as lines of Markdown; none if nothing failed."""
    said = [
        f"- {scenario}, {name}: {count} × {text}"
        for name, found in medians.items()
        for scenario, one in found.items()
        for text, count in one["failures"].items()
    ]
    return ["", "What failed:", "", *said] if said else []


def write(
    name: str,
    rounds: Rounds,
    medians: Medians,
    budgets: Sequence[Budget],
    more: Mapping[str, Any],
) -> Path:
    """Write everything into `loadtests/results/`; return the Markdown's path."""
    RESULTS.mkdir(exist_ok=True)
    where = circumstances()
    found = {
        "circumstances": where,
        "rounds": rounds,
        "medians": medians,
        "budgets": [{**budget._asdict(), "verdict": budget.verdict} for budget in budgets],
        **more,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1))
    _plot(RESULTS / f"{name}.png", medians)
    path = RESULTS / f"{name}.md"
    path.write_text(table(medians, budgets, where))
    return path


def _plot(path: Path, medians: Medians) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    scenarios = list(medians["rayfold"])
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4), layout="constrained")
    measures = [("per_second", "requests/s"), ("p99_ms", "p99, ms"), ("cpu_ms", "CPU ms a request")]
    for axis, (measure, label) in zip(axes, measures, strict=True):
        for place, (name, found) in enumerate(medians.items()):
            at = [number + 0.27 * (place - 1) for number in range(len(scenarios))]
            axis.bar(at, [found[each][measure] for each in scenarios], width=0.25, label=name)
        axis.set_xticks(range(len(scenarios)), scenarios, rotation=20)
        axis.set_ylabel(label)
        axis.set_yscale("log")
    axes[0].legend()
    figure.savefig(path, dpi=110)
