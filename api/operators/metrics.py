"""Counters and gauges in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_GAUGES = {
    "position": "Place in $all that the part has reached",
    "lag": "Positions behind the log's end",
    "memory_bytes": "Resident memory of the part's process",
    "waiting": "Commands in mailboxes; of a publication, events that nobody has taken yet",
    "aggregates": "Aggregates in memory",
    "parked": "Keys that are parked behind a poison event",
    "restarts": "Restarts of the part",
}


class Metrics:
    """What this gateway has counted since it began."""

    def __init__(self) -> None:
        self._commands: Counter[tuple[str, str]] = Counter()
        self._queries: Counter[str] = Counter()
        self._replies: Counter[tuple[str, str, int]] = Counter()

    def accepted(self, command: str) -> None:
        """Count a command that got its receipt."""
        self._commands[command, "accepted"] += 1

    def refused(self, command: str) -> None:
        """Count a command that a rule refused, or whose aggregate was at another revision."""
        self._commands[command, "refused"] += 1

    def failed(self, command: str) -> None:
        """Count a command without an outcome, or refused for a reason that is not the domain's."""
        self._commands[command, "failed"] += 1

    def asked(self, query: str) -> None:
        """Count a query."""
        self._queries[query] += 1

    def replied(self, method: str, route: str, status: int) -> None:
        """Count an answer; `route` is the template, so that ids make no series."""
        self._replies[method, route, status] += 1

    def text(self, parts: Iterable[Mapping[str, Any]]) -> str:
        """Return everything, with the state of the parts as gauges."""
        known = list(parts)
        lines: list[str] = []
        commands = [
            ({"command": name, "outcome": outcome}, count)
            for (name, outcome), count in self._commands.items()
        ]
        queries = [({"query": name}, count) for name, count in self._queries.items()]
        replies = [
            ({"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in self._replies.items()
        ]
        lines += _series("commands_total", "counter", "Commands by name and outcome", commands)
        lines += _series("queries_total", "counter", "Queries by name", queries)
        lines += _series("http_replies_total", "counter", "Replies by route and status", replies)
        ready = [({"part": part["part"]}, int(bool(part.get("ready")))) for part in known]
        lines += _series("ready", "gauge", "Whether the part can serve", ready)
        nodes = [
            ({"part": part["part"], "node": part["node"]}, 1) for part in known if "node" in part
        ]
        lines += _series("part_node", "gauge", "The node on which the part runs", nodes)
        for name, help_text in _GAUGES.items():
            values = [({"part": part["part"]}, part[name]) for part in known if name in part]
            lines += _series(name, "gauge", help_text, values)
        return "\n".join(lines) + "\n"


def _series(
    name: str, kind: str, help_text: str, values: list[tuple[dict[str, str], Any]]
) -> Iterable[str]:
    if values:
        yield f"# HELP rayfold_{name} {help_text}"
        yield f"# TYPE rayfold_{name} {kind}"
    for labels, value in values:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"rayfold_{name}{{{pairs}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
