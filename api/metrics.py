"""Counters and gauges in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_GAUGES = {
    "position": "Place in $all that the part has reached",
    "lag": "Positions behind the log's end",
    "memory_bytes": "Resident memory of the part's process",
    "waiting": "Commands in mailboxes",
    "aggregates": "Aggregates in memory",
    "parked": "Keys that are parked behind a poison event",
    "restarts": "Restarts of the part",
}


class Metrics:
    """What this gateway has counted since it began."""

    def __init__(self) -> None:
        self._commands: Counter[tuple[str, str]] = Counter()
        self._queries: Counter[str] = Counter()

    def accepted(self, command: str) -> None:
        """A command got its receipt."""
        self._commands[command, "accepted"] += 1

    def refused(self, command: str) -> None:
        """A rule said no."""
        self._commands[command, "refused"] += 1

    def failed(self, command: str) -> None:
        """No outcome, or a refusal for a reason that is not the domain's."""
        self._commands[command, "failed"] += 1

    def asked(self, query: str) -> None:
        """A query came in."""
        self._queries[query] += 1

    def text(self, parts: Iterable[Mapping[str, Any]]) -> str:
        """Everything, with the state of the parts as gauges."""
        lines = [
            "# HELP rayfold_commands_total Commands by name and outcome",
            "# TYPE rayfold_commands_total counter",
        ]
        for (command, outcome), count in sorted(self._commands.items()):
            labels = f'command="{command}",outcome="{outcome}"'
            lines.append(f"rayfold_commands_total{{{labels}}} {count}")
        lines += [
            "# HELP rayfold_queries_total Queries by name",
            "# TYPE rayfold_queries_total counter",
        ]
        for query, count in sorted(self._queries.items()):
            lines.append(f'rayfold_queries_total{{query="{query}"}} {count}')
        lines += _gauges(list(parts))
        return "\n".join(lines) + "\n"


def _gauges(parts: list[Mapping[str, Any]]) -> Iterable[str]:
    yield "# HELP rayfold_ready Whether the part can serve"
    yield "# TYPE rayfold_ready gauge"
    for part in parts:
        yield f'rayfold_ready{{part="{part["part"]}"}} {int(bool(part.get("ready")))}'
    for name, help_text in _GAUGES.items():
        values = [(part["part"], part[name]) for part in parts if name in part]
        if values:
            yield f"# HELP rayfold_{name} {help_text}"
            yield f"# TYPE rayfold_{name} gauge"
            for part_name, value in values:
                yield f'rayfold_{name}{{part="{part_name}"}} {value}'
