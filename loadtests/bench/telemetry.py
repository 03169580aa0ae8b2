"""What telemetry costs: CPU of all parts for a write, without it, at its default rate, and for all.

python -m loadtests.bench.telemetry [--seconds 8] [--rounds 3] prints it.
python -m loadtests.bench.telemetry --alone [--writes 40000] is for a machine that others use too.

CPU a write is less at the mercy of a busy machine than a rate is; the ways take turns, so that what
the machine does meanwhile concerns all of them. `--alone` runs the way of a write in one process,
from the request's sampling to a memory replica, without HTTP, Ray and Postgres: its microseconds
are what telemetry adds to a write, whatever a whole stack needs for one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadtests.bench.contenders import serving
from loadtests.bench.scenarios import ask_client
from loadtests.bench.usage import cpu_seconds, processes

CLIENTS = 32
SETTLE = 6.0
"""Seconds after a measurement: what was written is being projected, and spans are on their way."""

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
WAYS: Mapping[str, Mapping[str, str]] = {
    "off": {},
    "default": {ENDPOINT: ""},
    "all": {ENDPOINT: "", "OTEL_TRACES_SAMPLER": "always_on"},
}
"""By what they are called: their environment; the endpoint is filled in."""


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


def measure(way: str, seconds: float) -> tuple[float, float, float]:
    """Return CPU in milliseconds a write, writes a second, and spans a write."""
    with sink() as (counted, endpoint):
        given = {name: value or endpoint for name, value in WAYS[way].items()}
        with environment(given), serving("rayfold") as server:
            orders = ask_client(port=server.port, work="seed", orders=300, lines=3)
            task = {"port": server.port, "work": "write", "orders": orders, "clients": CLIENTS}
            ask_client(**task, seconds=2.0)
            time.sleep(SETTLE)
            of, spans = processes(server.pid, server.folder), counted.spans
            before = cpu_seconds(of)
            count = ask_client(**task, seconds=seconds)["count"]
            time.sleep(SETTLE)
            used = cpu_seconds(of) - before
            return used * 1000 / count, count / seconds, (counted.spans - spans) / count


async def write_alone(writes: int) -> float:
    """Return CPU in microseconds a write, with what the environment says of telemetry."""
    from actors.envelope import enclose
    from actors.local import LocalRuntime
    from domain.inventory.stock import ReceiveStock
    from projections.memory.replica import Replica
    from rayfold import Registry
    from rayfold.runtime.garbage_collection import collect_rarely
    from rayfold.runtime.tracing import RequestTraces, start_tracing

    traced = start_tracing("bench")
    requests = RequestTraces(traced) if traced is not None else None
    registry = Registry.load("domain")
    local = LocalRuntime(registry)
    replica = Replica(registry, [*registry.views], local.log)
    following = asyncio.create_task(replica.run())

    async def send(sku: str) -> None:
        span = requests.begin("POST", "/stock/{sku}/receive", "") if requests else None
        envelope = enclose(registry, ReceiveStock(sku=sku, quantity=1))
        if span is not None:
            envelope = envelope._replace(traceparent=span.traceparent)
        await local.bus.send(envelope)
        if span is not None:
            span.end()

    async def some(number: int) -> None:
        for _ in range(writes // CLIENTS):
            await send(f"sku-{number}")

    await asyncio.gather(*(send(f"sku-{number}") for number in range(CLIENTS)))
    collect_rarely()  # as every part does
    before = time.process_time()
    await asyncio.gather(*(some(number) for number in range(CLIENTS)))
    if traced is not None:
        await asyncio.to_thread(traced.flush)
    used = time.process_time() - before
    following.cancel()
    return used * 1e6 / (writes // CLIENTS * CLIENTS)


def alone(rounds: int, writes: int) -> None:
    """Print what each way costs in a process of its own."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with sink() as (counted, endpoint):
        for at in range(rounds):
            for way in [*WAYS][:: 1 if at % 2 else -1]:
                given = {name: value or endpoint for name, value in WAYS[way].items()}
                command = [sys.executable, "-m", __spec__.name, "--one", str(writes)]
                done = subprocess.run(
                    command, env={**os.environ, **given}, stdout=subprocess.PIPE, check=True
                )
                found[way].append(float(done.stdout))
    # What others do on the machine only ever adds to it.
    least = min(found["off"])
    for way, each in found.items():
        sys.stdout.write(
            f"{way}: {min(each):.1f} µs of CPU a write (median {median(each):.1f}),"
            f" {min(each) - least:+.1f} µs\n"
        )
    sys.stdout.write(f"{counted.spans} spans\n")


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="the way of a write in one process")
    parser.add_argument("--writes", type=int, default=40_000, help="of each, with --alone")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        sys.stdout.write(f"{asyncio.run(write_alone(given.one))}\n")
        return
    if given.alone:
        alone(given.rounds, given.writes)
        return
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for at in range(given.rounds):
        for way in [*WAYS][:: 1 if at % 2 else -1]:
            found[way].append(measure(way, given.seconds))
            cpu, rate, spans = found[way][-1]
            sys.stdout.write(
                f"{way}: {cpu:.4f} ms of CPU a write, {rate:,.0f} writes/s, {spans:.3f} spans\n"
            )
            sys.stdout.flush()
    off = median(cpu for cpu, *_ in found["off"])
    for way, each in found.items():
        cpu = median(cpu for cpu, *_ in each)
        spread = max(c for c, *_ in each) - min(c for c, *_ in each)
        more = (cpu / off - 1) * 100
        spans = median(spans for *_, spans in each)
        sys.stdout.write(
            f"{way}: {cpu:.3f} ms of CPU a write, {more:+.1f} % (±{spread / off * 50:.1f} %),"
            f" {spans:.3f} spans a write\n"
        )


if __name__ == "__main__":
    main()
