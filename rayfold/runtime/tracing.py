"""Traces with OpenTelemetry's SDK: off unless the environment names a collector.

The standard variables apply: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) turns it on,
`OTEL_SDK_DISABLED` and `OTEL_TRACES_EXPORTER=none` turn it off, `OTEL_TRACES_SAMPLER` and its
`…_ARG` say which requests are traced, and the SDK's others say how spans are sent. Each process
sends spans as OTLP over HTTP in protobuf, from a thread of its own.

A trace is passed on as its W3C `traceparent`, a text, in requests, envelopes and events' metadata.
Untraced work has none, so it costs a process nothing. Code that may trace calls `tracing()` once,
when it is constructed; the result is None in a process without tracing.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Literal

from rayfold.foreign_json import UNREADABLE
from rayfold.runtime.log_format import CURRENT_TRACE

if TYPE_CHECKING:  # the SDK takes 15 MB, so it is imported only if there is a collector
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import SpanContext, Tracer

log = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client", "producer", "consumer"]

DEFAULT_RATIO = 0.01
"""The share of requests without a trace that is traced, unless the environment says otherwise."""

MOST_LINKS = 64
"""The most links of one span: a batch may have more events than anybody looks at."""

FLUSH = 2.0
"""Seconds that an ending process has to send its last spans."""

_ODD = frozenset("13579bdf")


def is_sampled(traceparent: str) -> bool:
    """Return whether the trace is recorded, by its flags."""
    return len(traceparent) == 55 and traceparent[-1] in _ODD


class Sampler:
    """Decides which requests are traced, before any work for a span is done."""

    def __init__(self, name: str = "", argument: str = "") -> None:
        """Take the values of `OTEL_TRACES_SAMPLER` and its argument.

        Raises:
            ValueError: the sampler or its argument is unknown.
        """
        name = name.lower() or "parentbased_traceidratio"
        self._follows = name.startswith("parentbased_")
        own = name.removeprefix("parentbased_")
        if own == "traceidratio":
            self.ratio = float(argument) if argument else DEFAULT_RATIO
            if not 0 <= self.ratio <= 1:
                raise ValueError(f"a ratio is from 0 to 1, not {argument}")
        elif own in ("always_on", "always_off"):
            self.ratio = 1.0 if own == "always_on" else 0.0
        else:
            raise ValueError(f"no sampler is named {name!r}")

    def takes(self, traceparent: str) -> bool:
        """Return whether to trace a request that came with this trace, or with none."""
        if traceparent and self._follows:
            return traceparent[-1] in _ODD
        return random.random() < self.ratio


class Span:
    """A recorded span. `traceparent` is the value to pass on to its child spans."""

    __slots__ = ("_current", "_span", "traceparent")

    def __init__(self, span: SdkSpan) -> None:
        self._span = span
        self._current: Token[str] | None = None
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    @property
    def trace_id(self) -> str:
        """Return the trace's id, as exemplars name it."""
        return self.traceparent[3:35]

    def enter(self) -> None:
        """Add the trace to what this task logs, until the span ends."""
        self._current = CURRENT_TRACE.set(self.traceparent)

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Set an attribute of the span."""
        self._span.set_attribute(name, value)

    def end(self, error: BaseException | str | None = None) -> None:
        """End the span now, with an error if there was one."""
        if error is not None:
            from opentelemetry.trace import StatusCode

            kind = error if isinstance(error, str) else type(error).__name__
            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR, str(error))
        self._span.end()
        if self._current is not None:
            CURRENT_TRACE.reset(self._current)
            self._current = None


class Tracing:
    """Makes spans in this process."""

    def __init__(self, provider: TracerProvider, sampler: Sampler) -> None:
        from opentelemetry.trace import SpanKind

        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("rayfold")
        self._kinds = {each.name.lower(): each for each in SpanKind}
        self.sampler = sampler

    def begin(
        self,
        name: str,
        parent: str = "",
        *,
        kind: Kind = "internal",
        links: Iterable[str] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> Span:
        """Begin a child span of `parent`, a `traceparent`, linked with the spans `links`."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, NonRecordingSpan, set_span_in_context

        context = Context()
        if above := _context_of(parent):
            context = set_span_in_context(NonRecordingSpan(above), context)
        linked = [Link(each) for text in links if (each := _context_of(text))]
        return Span(
            self._tracer.start_span(
                name,
                context,
                kind=self._kinds[kind],
                links=linked or None,
                attributes=attributes,
            )
        )

    def of_batch(
        self, name: str, metadata: Iterable[bytes], attributes: Mapping[str, Any] | None = None
    ) -> Span | None:
        """Begin a span over events of which some are traced; None if none is.

        It belongs to the trace of the first one, and is linked with up to `MOST_LINKS` of them.
        """
        found = traced_in(metadata)
        if not found:
            return None
        links = found[:MOST_LINKS]
        return self.begin(name, found[0], kind="consumer", links=links, attributes=attributes)

    def flush(self) -> None:
        """Send the remaining spans. Blocks for at most `FLUSH` seconds."""
        self._provider.force_flush(int(FLUSH * 1000))

    def close(self) -> None:
        """Send the remaining spans, and no later ones. Blocks."""
        self.flush()
        self._provider.shutdown()


class RequestTraces:
    """The spans of a gateway's requests."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._takes = tracing.sampler.takes

    def begin(self, method: str, route: str, traceparent: str) -> Span | None:
        """Begin a request's span; None if it is not traced."""
        if not self._takes(traceparent):
            return None
        about = {"http.request.method": method, "http.route": route}
        span = self._tracing.begin(
            f"{method} {route}", traceparent, kind="server", attributes=about
        )
        span.enter()
        return span


def traced_in(metadata: Iterable[bytes]) -> list[str]:
    """Return the traces that events belong to, each once, of those that are recorded."""
    found: dict[str, None] = {}
    for raw in metadata:
        if b"traceparent" in raw and is_sampled(told := _traceparent_in(raw)):
            found[told] = None
    return list(found)


def _traceparent_in(raw: bytes) -> str:
    import json

    try:
        return str(json.loads(raw).get("traceparent", ""))
    except (*UNREADABLE, AttributeError):  # metadata of another system
        return ""


def _context_of(traceparent: str) -> SpanContext | None:
    from opentelemetry.trace import SpanContext, TraceFlags

    pieces = traceparent.split("-")
    if len(pieces) != 4:
        return None
    try:
        ids = int(pieces[1], 16), int(pieces[2], 16)
        flags = TraceFlags(int(pieces[3], 16) & TraceFlags.SAMPLED)
    except ValueError:
        return None
    return SpanContext(*ids, is_remote=True, trace_flags=flags)


_tracing: Tracing | None = None


def tracing() -> Tracing | None:
    """Return the process's maker of spans; None if it does not trace."""
    return _tracing


def start_tracing(part: str) -> Tracing | None:
    """Begin to trace if the environment names a collector; further calls do nothing.

    `part` names the process among those of a stack.
    """
    global _tracing
    if _tracing is None and _is_wanted(os.environ):
        _tracing = _started(part)
    return _tracing


def _is_wanted(environment: Mapping[str, str]) -> bool:
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return (
        any(environment.get(name) for name in endpoints)
        and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp").lower() != "none"
    )


def _started(part: str) -> Tracing:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    named = {"service.instance.id": f"{part}:{os.getpid()}", "rayfold.part": part}
    told = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in told:
        named["service.name"] = "rayfold"
    try:
        sampler = Sampler(
            os.environ.get("OTEL_TRACES_SAMPLER", ""),
            os.environ.get("OTEL_TRACES_SAMPLER_ARG", ""),
        )
    except ValueError as error:
        log.warning(
            "OTEL_TRACES_SAMPLER has an unknown value: the default is used",
            extra={"error": str(error)},
        )
        sampler = Sampler()
    # Requests that are not sampled never reach the SDK, where they too would cost time.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, sampler)
