"""Counters, histograms and gauges, in Prometheus' text format and as OpenMetrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from api.operators.histogram import Exemplar, Histogram

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

_GAUGES = {
    "position": "Place in $all that the part has reached",
    "lag": "Positions behind the log's end; of publications and reactors, what waits of their own",
    "lag_seconds": "For how long the part has been behind, or what waits longest there has waited",
    "memory_bytes": "Resident memory of the part's process",
    "disk_free_bytes": "Free bytes on the disk of the part's data",
    "waiting": "Commands in mailboxes; of a publication, events that nobody has taken yet;"
    " of processes and schedules, commands without an answer, which are sent again",
    "aggregates": "Aggregates in memory",
    "parked": "Keys that are parked behind a poison event",
    "restarts": "Restarts of the part",
}

_TRACED = ' # {{trace_id="{0.trace_id}"}} {0.seconds:.6f} {0.at:.3f}'


class Metrics:
    """What this gateway has counted since it began."""

    def __init__(self) -> None:
        self._commands: Counter[tuple[str, str]] = Counter()
        self._queries: Counter[str] = Counter()
        self._replies: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)

    def accepted(self, command: str) -> None:
        """Count a command that got its receipt."""
        self._commands[command, "accepted"] += 1

    def refused(self, command: str) -> None:
        """Count a command that a rule or its expected revision refused."""
        self._commands[command, "refused"] += 1

    def failed(self, command: str) -> None:
        """Count a command without an outcome, or refused for a reason outside the domain."""
        self._commands[command, "failed"] += 1

    def asked(self, query: str) -> None:
        """Count a query."""
        self._queries[query] += 1

    @property
    def commands_taken(self) -> int:
        """The number of commands that got their receipt here."""
        return sum(n for (_, how), n in self._commands.items() if how == "accepted")

    @property
    def queries_asked(self) -> int:
        """The number of queries that were asked here."""
        return self._queries.total()

    def replied(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float | None = None,
        trace_id: str = "",
    ) -> None:
        """Count an answer; `route` is the path template, so that ids do not create series.

        `seconds` is its duration, None for a stream; `trace_id` is given if it was traced.
        """
        self._replies[method, route, status] += 1
        if seconds is not None:
            self._seconds[method, route].observe(seconds, trace_id)

    def text(
        self,
        parts: Iterable[Mapping[str, Any]],
        rebuilds: Iterable[Mapping[str, Any]] = (),
        *,
        open_metrics: bool = False,
    ) -> str:
        """Return everything, with the state of the parts and the last rebuilds as gauges.

        OpenMetrics includes exemplars: traces of requests with that duration.
        """
        known = list(parts)
        commands = [
            ({"command": name, "outcome": outcome}, count)
            for (name, outcome), count in self._commands.items()
        ]
        queries = [({"query": name}, count) for name, count in self._queries.items()]
        replies = [
            ({"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in self._replies.items()
        ]
        write = _Writer(open_metrics=open_metrics)
        write.counter("commands", "Commands by name and outcome", commands)
        write.counter("queries", "Queries by name", queries)
        write.counter("http_replies", "Replies by route and status", replies)
        write.histograms(
            "http_seconds",
            "From a request's head to its reply, by route",
            [
                ({"method": method, "route": route}, each)
                for (method, route), each in self._seconds.items()
            ],
        )
        ready = [({"part": part["part"]}, int(bool(part.get("ready")))) for part in known]
        write.gauge("ready", "Whether the part can serve", ready)
        nodes = [
            ({"part": part["part"], "node": part["node"]}, 1) for part in known if "node" in part
        ]
        write.gauge("part_node", "The node on which the part runs", nodes)
        for name, help_text in _GAUGES.items():
            values = [({"part": part["part"]}, part[name]) for part in known if name in part]
            write.gauge(name, help_text, values)
        failed = [({"view": each["view"]}, int(each["state"] == "failed")) for each in rebuilds]
        write.gauge("rebuild_failed", "Whether the view's last rebuild failed", failed)
        return write.text()


Values = list[tuple[dict[str, str], Any]]


class _Writer:
    """Writes families of series. OpenMetrics names a counter's family without its `_total`."""

    def __init__(self, *, open_metrics: bool) -> None:
        self._open = open_metrics
        self._lines: list[str] = []

    def text(self) -> str:
        """Return what was written."""
        end = ["# EOF"] if self._open else []
        return "\n".join([*self._lines, *end]) + "\n"

    def counter(self, name: str, help_text: str, values: Values) -> None:
        """Write a counter's series, as `<name>_total`."""
        self._head(name if self._open else f"{name}_total", "counter", help_text, bool(values))
        self._lines += _samples(f"{name}_total", values)

    def gauge(self, name: str, help_text: str, values: Values) -> None:
        """Write a gauge's series."""
        self._head(name, "gauge", help_text, bool(values))
        self._lines += _samples(name, values)

    def histograms(
        self, name: str, help_text: str, values: list[tuple[dict[str, str], Histogram]]
    ) -> None:
        """Write histograms; with exemplars where the format has them."""
        self._head(name, "histogram", help_text, bool(values))
        for labels, histogram in values:
            for bound, count, exemplar in histogram.buckets():
                [sample] = _samples(f"{name}_bucket", [({**labels, "le": bound}, count)])
                self._lines.append(sample + self._traced(exemplar))
            self._lines += _samples(f"{name}_sum", [(labels, f"{histogram.sum:.6f}")])
            self._lines += _samples(f"{name}_count", [(labels, histogram.count)])

    def _head(self, name: str, kind: str, help_text: str, wanted: bool) -> None:
        if wanted:
            self._lines.append(f"# HELP rayfold_{name} {help_text}")
            self._lines.append(f"# TYPE rayfold_{name} {kind}")

    def _traced(self, exemplar: Exemplar | None) -> str:
        return _TRACED.format(exemplar) if self._open and exemplar is not None else ""


def _samples(name: str, values: Values) -> Iterator[str]:
    for labels, value in values:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"rayfold_{name}{{{pairs}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
