"""A collector of traces: takes OTLP over HTTP, and decodes it by the official protobufs."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

DEADLINE = 60.0
"""Seconds for whatever is waited for."""


class SeenSpan(NamedTuple):
    """A span as it came in; `links` are (trace, span)."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    resource: dict[str, Any]
    kind: int
    error: bool
    nanoseconds: int


class Collector:
    """What was exported to it so far."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.paths: set[str] = set()
        self.types: set[str] = set()
        self._came = threading.Condition()
        self.endpoint = ""

    def take(self, path: str, content_type: str, body: bytes) -> None:
        """Decode an export."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.paths.add(path)
            self.types.add(content_type)
            for resource in request.resource_spans:
                about = plain(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [seen(span, about) for span in scope.spans]
            self._came.notify_all()

    def until(self, enough: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """Wait until what came is enough; return it."""
        with self._came:
            assert self._came.wait_for(lambda: enough(self.spans), DEADLINE), [
                (each.name, each.trace_id) for each in self.spans
            ]
            return list(self.spans)

    def clear(self) -> None:
        """Forget what came."""
        with self._came:
            self.spans.clear()


def seen(span: Any, resource: dict[str, Any]) -> SeenSpan:
    """Return a span of the protocol as a test reads it."""
    return SeenSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        [(each.trace_id.hex(), each.span_id.hex()) for each in span.links],
        plain(span.attributes),
        resource,
        span.kind,
        span.status.code == 2,
        span.end_time_unix_nano - span.start_time_unix_nano,
    )


def plain(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dict."""
    found: dict[str, Any] = {}
    for each in attributes:
        value = each.value
        if value.HasField("array_value"):
            found[each.key] = [item.string_value for item in value.array_value.values]
        else:
            found[each.key] = getattr(value, value.WhichOneof("value"))
    return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run one on loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, self.headers["content-type"], body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
