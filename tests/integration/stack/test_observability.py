"""A stack as its operators see it: one command traced everywhere, and live faults fire alerts.

The alerts are those of `deploy/observability/`, evaluated by a real Prometheus, without their
waits, and a lag is one from 3 seconds on. `RAYFOLD_OBSERVABILITY_LONG=1` leaves the lag as it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from tests.collector import Collector, SeenSpan, collecting
from tests.prometheus_server import Prometheus, prometheus
from tests.small_disk_store import SmallDiskStore, small_disk_store
from tests.stack import Stack, run_rayfold

DEADLINE = 60.0
"""Seconds for whatever is waited for."""

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ=="
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Return the URL of a receiver, and the headers of what it was sent."""
    taken: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            taken.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", taken
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDiskStore]:
    with small_disk_store(tmp_path_factory.mktemp("disk") / "disk") as running:
        yield running


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory,
    collector: Collector,
    store: SmallDiskStore,
    webhook: tuple[str, list[dict[str, str]]],
) -> Iterator[Stack]:
    """Run the reference domain, traced where a client is, with logs as JSON."""
    news = {"url": webhook[0], "secret": SECRET, "private_addresses": True}
    stack = Stack(
        tmp_path_factory.mktemp("observed") / "data",
        f"--eventstore={store.uri}",
        RAYFOLD_PUBLICATIONS=json.dumps({"order-news": news}),
        RAYFOLD_LOG_FORMAT="json",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_TRACES_SAMPLER="parentbased_always_off",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture(scope="module")
def http(observed: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=observed.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory, observed: Stack) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), observed.port) as running:
        yield running


def placed(http: httpx.Client, command_id: str, **headers: str) -> str:
    """Place an order that cannot be fulfilled; return its id."""
    order = str(uuid4())
    http.post("/orders", json={"order_id": order, "customer_id": "ada"}).raise_for_status()
    line = {"sku": f"rare-{order}", "quantity": 1, "unit_price_cents": 450}
    http.post(f"/orders/{order}/lines", json=line).raise_for_status()
    given = {"Idempotency-Key": command_id, **headers}
    http.post(f"/orders/{order}/place", json={"fulfil": True}, headers=given).raise_for_status()
    return order


def test_one_command_is_traced_from_http_to_both_stores_and_to_all_that_it_led_to(
    http: httpx.Client, collector: Collector, webhook: tuple[str, list[dict[str, str]]]
) -> None:
    command_id = str(uuid4())
    order = placed(http, command_id, traceparent=CLIENTS)

    def enough(spans: list[SeenSpan]) -> bool:
        names = {each.name for each in spans}
        # Each process sends its own, when it has time.
        handled = {f"handle {name}" for name in ("place-order", "reserve-stock", "cancel-order")}
        own = {"POST /orders/{order_id}/place", "append", "step fulfilment"}
        wanted = handled | own | {"apply memory", "apply postgres", "publish order-cancelled"}
        stores = ("apply memory", "apply postgres")
        return wanted <= names and all(applied_to(spans, each) for each in stores)

    spans = [each for each in collector.until(enough) if each.trace_id == TRACE]
    print_tree(spans)
    by_id = {each.span_id: each for each in spans}
    [request] = [each for each in spans if each.name == "POST /orders/{order_id}/place"]
    assert request.parent_id == CLIENTS.split("-")[2]
    assert request.attributes["http.response.status_code"] == 202
    handled = next(each for each in spans if each.name == "handle place-order")
    assert handled.parent_id == request.span_id
    assert handled.attributes["rayfold.command_id"] == command_id
    assert handled.attributes["rayfold.stream"] == f"order-{order}"
    assert any(e.name == "append" and e.parent_id == handled.span_id for e in spans)
    for store in ("memory", "postgres"):
        applied = [e for e in spans if e.name == f"apply {store}"]
        assert any((TRACE, handled.span_id) in each.links for each in applied), store
    views = {v for e in spans if e.name == "apply postgres" for v in e.attributes["rayfold.views"]}
    assert "order-details" in views
    # What the saga decided, and what came of it, in the same trace.
    step = next(e for e in spans if e.name == "step fulfilment" and e.parent_id == handled.span_id)
    # On a slow machine what has no answer in time is sent again.
    reserve = next(e for e in spans if e.name == "handle reserve-stock")
    assert reserve.parent_id == step.span_id
    assert reserve.attributes["rayfold.rejected"]
    told = next(e for e in spans if e.name.startswith("publish "))
    assert by_id[told.parent_id].name == "handle cancel-order"
    assert any(each.get("traceparent") == f"00-{TRACE}-{told.span_id}-01" for each in webhook[1])
    parts = {each.resource["rayfold.part"].partition(":")[0] for each in spans}
    assert {"gateway", "memory", "postgres", "publication", "process"} <= parts
    # What nobody asked to be traced leaves no span, nor a trace on its events.
    assert all(each.trace_id == TRACE for each in collector.spans)
    events = http.get(f"/orders/{order}/history").json()
    assert [("traceparent" in each["metadata"]) for each in events[:2]] == [False, False]
    assert all("traceparent" in each["metadata"] for each in events[2:])


def applied_to(spans: list[SeenSpan], name: str) -> bool:
    """Tell whether a store has sent its span of the order that was placed."""
    placed = {each.span_id for each in spans if each.name == "handle place-order"}
    return any(
        "order-details" in each.attributes["rayfold.views"]
        and placed & {span for _, span in each.links}
        for each in spans
        if each.name == name
    )


def print_tree(spans: list[SeenSpan]) -> None:
    """Print a trace, as it is shown in the documents."""
    below: dict[str, list[SeenSpan]] = {}
    known = {each.span_id for each in spans}
    for each in spans:
        below.setdefault(each.parent_id if each.parent_id in known else "", []).append(each)

    def show(parent: str, depth: int) -> None:
        for each in below.get(parent, ()):
            part = each.resource["rayfold.part"]
            linked = f", {len(each.links)} links" if each.links else ""
            print(f"{'  ' * depth}{each.name} ({part}, {each.nanoseconds / 1e6:.1f} ms{linked})")
            show(each.span_id, depth + 1)

    show("", 0)


def test_the_same_command_is_followed_everywhere_without_any_traces(
    observed: Stack, http: httpx.Client
) -> None:
    command_id = str(uuid4())
    order = placed(http, command_id)
    until(lambda: cancelled(http, order))

    def whole() -> bool:
        found = causes(http, command_id)
        told = [each for c in found["commands"] for e in c["events"] for each in e["outgoing"]]
        events = [each for c in found["commands"] for each in c["events"]]
        applied = [each for e in events for each in e["applications"]]
        return (
            len(found["commands"]) == 3
            and all(each["status"] == "applied" for each in applied)
            and [each["status"] for each in told] == ["delivered"]
        )

    until(whole)
    found = causes(http, command_id)
    assert found["complete"]
    place, reserve, cancel = found["commands"]
    assert [e["type"] for e in place["events"]] == ["OrderPlaced", "FulfilmentRequested"]
    assert (reserve["command"], reserve["status"]) == ("reserve-stock", "rejected")
    assert cancel["caused_by"] == reserve["command_id"]
    stores = {(each["store"], each["view"]) for each in place["events"][0]["applications"]}
    assert {("memory", "order-details"), ("postgres", "order-details")} <= stores
    delays = [
        each["within_seconds"]
        for each in place["events"][0]["applications"]
        if each["within_seconds"] is not None
    ]
    assert delays
    assert all(0 <= each < DEADLINE for each in delays)
    said = run_rayfold(observed, "causality", f"2@order-{order}")
    print(said)
    assert command_id in said
    assert "cancel-order" in said


def causes(http: httpx.Client, asked: str) -> dict[str, Any]:
    answer = http.get("/operators/causality", params={"id": asked})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cancelled(http: httpx.Client, order: str) -> bool:
    answer = http.get(f"/orders/{order}")
    return bool(answer.status_code == 200 and answer.json()["status"] == "cancelled")


def until(done: Any) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def explained(http: httpx.Client, name: str = "order-details") -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/operators/explain/{name}").json()
    return found


def until_explained(http: httpx.Client, cause: str) -> str:
    """Wait until that is what is said first; return the sentence."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = explained(http)
        if found["findings"] and found["findings"][0]["cause"] == cause:
            print(found["sentence"])
            return str(found["sentence"])
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def until_well(http: httpx.Client) -> None:
    """Wait until there is nothing to explain."""
    until(lambda: explained(http)["healthy"])


def test_a_bucket_of_the_slowest_requests_leads_to_a_trace(
    http: httpx.Client, metrics: Prometheus
) -> None:
    placed(http, str(uuid4()), traceparent=CLIENTS)
    until(lambda: TRACE in metrics.exemplars("rayfold_http_seconds_bucket"))
    assert metrics.query('up{job="rayfold"}')[0]["value"][1] == "1"


def test_an_event_store_that_is_stopped_fires_its_alert_and_is_what_explains_the_lag(
    store: SmallDiskStore, observed: Stack, http: httpx.Client, metrics: Prometheus
) -> None:
    until_well(http)
    metrics.until("RayfoldEventStoreDown", "eventstore", fires=False)
    store.process.suspend()
    try:
        seconds = metrics.until("RayfoldEventStoreDown", "eventstore")
        sentence = until_explained(http, "store-down")
    finally:
        store.process.resume()
    print(f"fires after {seconds:.1f} s")
    assert "the event store does not serve since" in sentence
    metrics.until("RayfoldEventStoreDown", "eventstore", fires=False)
    until_well(http)
    # The log says so as JSON.
    text = (observed.data.parent / f"{observed.data.name}.log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert not re.search(r"^[0-9-]{10} .* (WARNING|ERROR) ", text, re.MULTILINE)
    down = next(each for each in lines if each["message"] == "a server is not ready")
    assert (down["server"], down["part"], down["level"]) == ("eventstore", "up", "error")
    assert all({"time", "level", "logger", "message", "pid"} <= set(each) for each in lines)


def test_a_projector_that_is_stopped_fires_its_alert_until_it_is_replaced(
    http: httpx.Client, metrics: Prometheus
) -> None:
    until_well(http)
    part = next(each for each in explained(http)["parts"] if each["kind"] == "postgres")
    name = part["part"]
    metrics.until("RayfoldPartDown", name, fires=False)
    os.kill(part["pid"], signal.SIGSTOP)
    seconds = metrics.until("RayfoldPartDown", name)
    print(f"fires after {seconds:.1f} s")
    # It is silent: ended, and started again elsewhere.
    metrics.until("RayfoldPartDown", name, fires=False)
    until_well(http)


@contextmanager
def used_up(uri: str) -> Iterator[None]:
    """Append whatever fits, again and again: SQLite gives room back that it had set aside."""
    done = threading.Event()

    async def append() -> None:
        log = EventLog(uri)
        while not done.is_set():
            for size in (100_000, 1):
                with suppress(StoreUnavailable):
                    while not done.is_set():
                        data = json.dumps("x" * size).encode()
                        record = NewRecord("Filled", data, {}, str(uuid4()))
                        await log.append([StreamAppend("filler-1", ANY, [record])])
            await asyncio.to_thread(done.wait, 0.1)
        await log.close()

    appending = threading.Thread(target=asyncio.run, args=[append()])
    appending.start()
    try:
        yield
    finally:
        done.set()
        appending.join()


def test_a_full_disk_fires_its_alert_until_there_is_room(
    store: SmallDiskStore, http: httpx.Client, metrics: Prometheus
) -> None:
    until_well(http)
    command = {"json": {"quantity": 1}, "headers": {"Rayfold-Timeout": "2"}}
    store.fill()
    try:
        with used_up(store.uri):
            began = time.monotonic()
            # After one that was refused another may fit, and ends the alert.
            until(
                lambda: (
                    http.post("/stock/tea/receive", **command).status_code == 503
                    and ("RayfoldAppendsRefused", "write:appends") in metrics.firing()
                )
            )
            seconds = time.monotonic() - began
    finally:
        store.make_room()
    print(f"fires after {seconds:.1f} s")
    metrics.until("RayfoldAppendsRefused", "write:appends", fires=False)
    until(lambda: http.post("/stock/tea/receive", **command).status_code == 202)


def test_a_projector_that_waits_for_a_lock_is_explained_and_fires_the_alert_of_lag(
    observed: Stack, http: httpx.Client, metrics: Prometheus
) -> None:
    until_well(http)
    dsn = postgres_of(observed)

    async def lock() -> None:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await connection.execute("LOCK TABLE rayfold_checkpoint IN EXCLUSIVE MODE")
            await asyncio.to_thread(placed, http, str(uuid4()))
            await asyncio.to_thread(until_explained, http, "slow")
            seconds = await asyncio.to_thread(metrics.until, "RayfoldLag", "postgres:")
            print(f"fires after {seconds:.1f} s")
        await connection.close()

    asyncio.run(lock())
    metrics.until("RayfoldLag", "postgres:", fires=False)
    until_well(http)


def postgres_of(stack: Stack) -> str:
    """Return the DSN of the stack's own Postgres, by where its command puts the socket."""
    for child in psutil.Process(stack.pid).children():
        command = child.cmdline()
        if "-k" in command:
            return f"postgresql://postgres:@/postgres?host={command[command.index('-k') + 1]}"
    raise AssertionError("no process of Postgres was found")


def test_a_poison_event_fires_its_alert_and_is_named(
    store: SmallDiskStore, observed: Stack, http: httpx.Client, metrics: Prometheus
) -> None:
    until_well(http)
    metrics.until("RayfoldParked", "", fires=False)
    stream = f"order-{uuid4()}"

    async def poison() -> None:
        log = EventLog(store.uri)
        bad = NewRecord("OrderCreated", b'{"order_id": 7}', {}, str(uuid4()))
        await log.append([StreamAppend(stream, None, [bad])])
        await log.close()

    asyncio.run(poison())
    seconds = metrics.until("RayfoldParked", "")
    print(f"fires after {seconds:.1f} s")
    sentence = until_explained(http, "parked")
    assert stream in sentence
    with pytest.raises(AssertionError):  # it exits with 1, and says so
        run_rayfold(observed, "explain", "order-details")
    discard = {"view": "order-details", "key": stream}
    http.post("/operators/discard", json=discard, timeout=60).raise_for_status()
    until(lambda: not [f for f in explained(http)["findings"] if f["cause"] == "parked"])
