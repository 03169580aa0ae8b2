"""What telemetry costs: CPU of all parts for a write, without it, at its default rate, and for all.

python -m loadtests.bench.telemetry [--seconds 5] [--cycles 6] prints it; part of `make bench`.
python -m loadtests.bench.telemetry --alone [--writes 40000] is for a machine that others use too.

The stacks are up at the same time and loaded in turns, so that what the machine does meanwhile
concerns all of them: each cycle gives a ratio, and the median counts. CPU is what the kernel counts
of each stack's processes, its exports included. Two of them are without a collector: the ratios are
to both, and how much these two differ is told, as no difference that is smaller means anything.
What a span costs is told too, from the large difference that tracing every write makes, and with it
what the spans of the default rate cost.
`--alone` runs the way of a write in one process, from the request's sampling to a memory replica,
without HTTP, Ray and Postgres: its microseconds are what telemetry adds to a write, whatever a
whole stack needs for one.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadtests.bench.contenders import Server, serving
from loadtests.bench.scenarios import ask_client
from loadtests.bench.telemetry_alone import Alone, alone
from loadtests.bench.usage import cpu_of

CLIENTS = 32
CYCLES = 6
SECONDS = 5.0
SETTLE = 2.5
"""Seconds after a turn: what was written is being projected, and spans are on their way."""

ALONE_ROUNDS = 2
ALONE_WRITES = 20_000

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "2000"}
"""Milliseconds between exports, less than `SETTLE`: each turn pays for its own spans. The default
of 5 s makes fewer and larger exports, so this is no flattery."""

ROOM = {"OTEL_BSP_MAX_QUEUE_SIZE": "500000"}
"""Spans: one process makes more of them alone than a queue of the default length takes."""


class Turn(NamedTuple):
    """CPU in milliseconds a write."""

    cpu_ms: float
    per_second: float
    spans: float


class Telemetry(NamedTuple):
    """CPU in milliseconds a write of all parts; ratios to the stacks without a collector."""

    off_ms: float
    alike_ratio: float
    """Of the second stack without a collector to the first."""
    default_ratio: float
    default_spread: float
    """Half of the distance between the quartiles of the cycles' ratios."""
    all_ratio: float
    all_spread: float
    default_spans: float
    all_spans: float
    alone: Alone

    @property
    def span_ms(self) -> float:
        """Return what a span costs, from making it to its export, where every write is traced."""
        return (self.all_ratio - 1) * self.off_ms / self.all_spans if self.all_spans else 0.0

    @property
    def by_spans_ratio(self) -> float:
        """Return what a write with the default rate's spans costs, to what it costs without."""
        return 1 + self.span_ms * self.default_spans / self.off_ms

    @property
    def alone_ratio(self) -> float:
        """Return what a write costs with what is added in one process, to what it costs without."""
        return 1 + self.alone.default_adds_us / (self.off_ms * 1000)

    def figures(self) -> dict[str, Any]:
        """Return it for the results' file."""
        ratios = {"by_spans_ratio": self.by_spans_ratio, "alone_ratio": self.alone_ratio}
        return {**self._asdict(), **ratios, "alone": self.alone._asdict()}

    def lines(self) -> str:
        """Return it for people."""
        return (
            f"A write without a collector: {self.off_ms:.3f} ms of CPU of all parts, and in a"
            f" stack that is the same {self.alike_ratio:.3f} of that. Traced at the default rate:"
            f" {self.default_ratio:.3f} of that (±{self.default_spread:.3f},"
            f" {self.default_spans:.3f} spans a write); every write traced: {self.all_ratio:.3f}"
            f" (±{self.all_spread:.3f}, {self.all_spans:.1f} spans):"
            f" {self.span_ms * 1000:.0f} µs a span, and with those of the default rate"
            f" {self.by_spans_ratio:.3f}. " + self.alone.lines()
        )


def summary(turns: Mapping[str, Sequence[Turn]], of_one: Alone) -> Telemetry:
    """Return the medians over the cycles of `off`, `off again`, `default` and `all`."""
    off = [
        (one.cpu_ms + other.cpu_ms) / 2
        for one, other in zip(turns["off"], turns["off again"], strict=True)
    ]

    def ratios(way: str) -> tuple[float, float]:
        each = sorted(turn.cpu_ms / without for turn, without in zip(turns[way], off, strict=True))
        quarter = len(each) // 4
        return median(each), (each[-1 - quarter] - each[quarter]) / 2

    return Telemetry(
        median(off),
        ratios("off again")[0] / ratios("off")[0],
        *ratios("default"),
        *ratios("all"),
        median(turn.spans for turn in turns["default"]),
        median(turn.spans for turn in turns["all"]),
        of_one,
    )


class Sink:
    """A collector in this process, which counts spans: its CPU is not the server's."""

    def __init__(self) -> None:
        self.spans = 0

    def take(self, body: bytes) -> None:
        """Count what is in an export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += sum(len(scope.spans) for scope in resource.scope_spans)


@contextmanager
def sink() -> Iterator[tuple[Sink, str]]:
    """Run one; yield it with its endpoint."""
    counted = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            counted.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield counted, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for whoever is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def ways(endpoint: str) -> dict[str, dict[str, str]]:
    """Return what each is called, with its environment."""
    default = {ENDPOINT: endpoint}
    return {
        "off": {},
        "off again": {},
        "default": default,
        "all": {**default, "OTEL_TRACES_SAMPLER": "always_on"},
    }


class Loaded:
    """A stack, its collector, and orders to write to."""

    def __init__(self, server: Server, counted: Sink) -> None:
        self._server, self._counted = server, counted
        orders = ask_client(port=server.port, work="seed", orders=300, lines=3)
        self._task = {"port": server.port, "work": "write", "orders": orders, "clients": CLIENTS}
        ask_client(**self._task, seconds=SECONDS)

    def turn(self, seconds: float) -> Turn:
        """Load it for so long, and let it come to rest."""
        before, spans = self._used(), self._counted.spans
        count = ask_client(**self._task, seconds=seconds)["count"]
        time.sleep(SETTLE)
        used = self._used() - before
        return Turn(used * 1000 / count, count / seconds, (self._counted.spans - spans) / count)

    def _used(self) -> float:
        return cpu_of(self._server.pid, self._server.folder)


def measure(
    seconds: float = SECONDS, cycles: int = CYCLES, of_one: Alone | None = None
) -> Telemetry:
    """Measure the stacks in turns; and the way of a write in one process, unless given."""
    of_one = of_one or measure_alone(ALONE_ROUNDS, ALONE_WRITES)
    with ExitStack() as up:
        stacks = {}
        for way in ways(""):
            counted, endpoint = up.enter_context(sink())
            with environment({**OFTEN, **ways(endpoint)[way]}):
                server = up.enter_context(serving("rayfold"))
            stacks[way] = Loaded(server, counted)
        time.sleep(SETTLE)
        turns: dict[str, list[Turn]] = {way: [] for way in stacks}
        order = [*stacks]
        for at in range(cycles):
            # Each is first as often as the others, and comes after different ones.
            order = order[1:] + order[:1] if at % 2 else order[::-1]
            for way in order:
                turns[way].append(stacks[way].turn(seconds))
    return summary(turns, of_one)


def measure_alone(rounds: int, writes: int) -> Alone:
    """Measure the way of a write in one process, with a collector beside it."""
    with sink() as (_, endpoint):
        given = ways(endpoint)
        return alone({way: ROOM | given[way] for way in ("off", "default", "all")}, rounds, writes)


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each turn")
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--alone", action="store_true", help="the way of a write in one process")
    parser.add_argument("--writes", type=int, default=ALONE_WRITES, help="of each, with --alone")
    given = parser.parse_args()
    of_one = measure_alone(ALONE_ROUNDS, given.writes)
    if given.alone:
        sys.stdout.write(of_one.lines())
    else:
        sys.stdout.write(measure(given.seconds, given.cycles, of_one).lines())


if __name__ == "__main__":
    main()
