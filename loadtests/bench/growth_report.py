"""The results of growth runs so far: JSON that each run extends, tables, and curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtests.bench.growth_stack import PARTS
from loadtests.bench.report import RESULTS, circumstances

FOUND = RESULTS / "growth.json"

USUAL = 16.0
"""Loops per microsecond. Rates are also given as if the machine had always had this speed."""


def add_size(found: dict[str, Any]) -> None:
    """Replace one size's results."""
    known = _known()
    kept = [size for size in known["sizes"] if size["events"] != found["events"]]
    sizes = [*kept, found | {"circumstances": circumstances()}]
    known["sizes"] = sorted(sizes, key=lambda size: int(size["events"]))
    _keep(known)


def add_scale(rows: list[dict[str, Any]]) -> None:
    """Replace the results for hosts, replicas and partitions."""
    _keep(_known() | {"scale": {"rows": rows, "circumstances": circumstances()}})


def _known() -> dict[str, Any]:
    if FOUND.exists():
        known: dict[str, Any] = json.loads(FOUND.read_text())
        return known
    return {"sizes": [], "scale": None}


def _keep(known: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    FOUND.write_text(json.dumps(known, indent=1) + "\n")


def write() -> Path:
    """Write tables and curves of all results; return the Markdown's path."""
    known = _known()
    lines: list[str] = []
    if known["sizes"]:
        lines += _where(known["sizes"][-1]) + _table_of_sizes(known["sizes"])
        _plot(RESULTS / "growth.png", known["sizes"])
    if known["scale"]:
        lines += ["", *_where(known["scale"]), *_table_of_scale(known["scale"]["rows"])]
    path = RESULTS / "growth.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _where(found: dict[str, Any]) -> list[str]:
    where = found["circumstances"]
    return [
        f"{where['cores']} cores, {where['memory_gb']} GB, Python {where['python']},"
        f" commit {where['commit'][:12]}, {where['at']}.",
        "",
    ]


def _table_of_sizes(sizes: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | " + " | ".join(f"{size['events']:,} events" for size in sizes) + " |",
        "|---|" + "--:|" * len(sizes),
    ]

    for size in sizes:
        for work in ("write_warm", "write_cold", "read"):
            if "speed" in size:
                size[work]["usual"] = size[work]["per_second"] * USUAL / size["speed"]

    def row(name: str, *path: str, form: str = "{:,.1f}") -> None:
        cells = []
        for size in sizes:
            value: Any = size
            for step in path:
                value = value.get(step) if value is not None else None
            cells.append("" if value is None else form.format(value))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    row("aggregates", "aggregates", form="{:,}")
    row("filling the log, s", "fill_s")
    row("first start until both stores are caught up, s", "first", "ready_s")
    row("of that, views folding, s", "first", "views_s")
    row("of that, CPU of the replica, s", "first", "cpu_s", "replica")
    row("of that, CPU of the projector, s", "first", "cpu_s", "projector")
    row("of that, CPU of Postgres, s", "first", "cpu_s", "postgres")
    row("of that, CPU of the store, s", "first", "cpu_s", "store")
    row("start again until both are caught up, s", "again", "ready_s")
    row("of that, views folding, s", "again", "views_s")
    for part in PARTS:
        row(
            f"memory (PSS) of {part}, started again, MB", "again", "memory_mb", part, form="{:,.0f}"
        )
    row("memory of all, started again, MB", "again", "memory_mb", "sum", form="{:,.0f}")
    row("memory of replica at rest, MB", "memory_rested_mb", "replica", form="{:,.0f}")
    row("memory of host after the load, MB", "memory_loaded_mb", "host", form="{:,.0f}")
    row("memory of all after the load, MB", "memory_loaded_mb", "sum", form="{:,.0f}")
    for work, name in (
        ("write_warm", "write@32, warm"),
        ("write_cold", "write@32, cold"),
        ("read", "read@32"),
    ):
        row(f"{name}, requests/s", work, "per_second", form="{:,.0f}")
        row(f"{name}, requests/s at {USUAL:.0f} loops/µs", work, "usual", form="{:,.0f}")
        row(f"{name}, p50 ms", work, "p50_ms")
        row(f"{name}, p99 ms", work, "p99_ms")
        for part in ("host", "store"):
            if work != "read":
                row(f"{name}, CPU of {part}, ms a write", work, "cpu_ms", part, form="{:,.2f}")
    row(
        "share of the cold writes that met a cold aggregate",
        "write_cold",
        "cold_share",
        form="{:.0%}",
    )
    row("catching up after the cold writes, s", "write_cold", "drained_s", form="{:,.2f}")
    row("speed of the machine meanwhile, loops/µs", "speed")
    row("disk of the store, MB", "store_mb")
    row("disk of Postgres, MB", "postgres_mb")
    return lines


def _table_of_scale(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | scaled in s | write@64/s | p50 ms | CPU ms a write, all |"
        " of it host, replica, projector | read@64/s | p50 ms |"
        " lag in memory, p50 and p99 ms | lag in Postgres, p50 and p99 ms |"
        " memory (PSS) MB | machine, loops/µs |",
        "|---|" + "--:|" * 11,
    ]
    for row in rows:
        write, read = row["write"], row["read"]
        memory, postgres = row["lag_memory"]["lag"], row["lag_postgres"]["lag"]
        by_part = [write["cpu_ms"][part] for part in ("host", "replica", "projector")]
        cells = [
            f"{row['what']}: {row['count']}",
            f"{row['scaled_s']:.1f}" if row["count"] > 1 else "",
            f"{write['per_second']:,.0f}",
            f"{write['p50_ms']:.1f}",
            f"{sum(write['cpu_ms'].values()):.2f}",
            ", ".join(f"{each:.2f}" for each in by_part),
            f"{read['per_second']:,.0f}",
            f"{read['p50_ms']:.1f}",
            f"{memory['p50_ms']:.0f}, {memory['p99_ms']:.0f}",
            f"{postgres['p50_ms']:.0f}, {postgres['p99_ms']:.0f}",
            f"{row['memory_mb']['sum']:,.0f}",
            f"{row['speed']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _plot(path: Path, sizes: list[dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
    works = {"write_warm": "write, warm", "write_cold": "write, cold", "read": "read"}
    curves: list[tuple[str, dict[str, list[float]]]] = [
        (
            "requests/s, 32 clients",
            {n: [s[w]["per_second"] for s in sizes] for w, n in works.items()}
            | {
                f"{n}, at {USUAL:.0f} loops/µs": [s[w].get("usual", float("nan")) for s in sizes]
                for w, n in works.items()
            },
        ),
        (
            "latency, ms",
            {
                f"{name}, {at}": [size[work][f"{at}_ms"] for size in sizes]
                for work, name in works.items()
                for at in ("p50", "p99")
            },
        ),
        (
            "PSS, MB, started again",
            {part: [size["again"]["memory_mb"].get(part, 0) for size in sizes] for part in PARTS},
        ),
        (
            "seconds until both stores are caught up",
            {
                "first start": [size["first"]["ready_s"] for size in sizes],
                "start again": [size["again"]["ready_s"] for size in sizes],
            },
        ),
    ]
    for axis, (label, named) in zip(axes.flat, curves, strict=True):
        for name, values in named.items():
            axis.plot([size["events"] for size in sizes], values, marker="o", label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("events on the log")
        axis.set_ylabel(label)
        axis.grid(which="both", alpha=0.2)
        axis.legend(fontsize="x-small", framealpha=0.2)
    figure.savefig(path, dpi=110)
