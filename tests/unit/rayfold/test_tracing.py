"""Traces: off without a collector, sampled before anything is paid for, linked over all hops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any, ClassVar, cast
from uuid import uuid4

import pytest

from actors.envelope import enclose
from actors.local import LocalRuntime
from domain.inventory.stock import ReceiveStock, ReserveStock, StockReceived
from eventstore.memory import MemoryLog
from eventstore.records import Metadata, RawRecord
from projections.memory.replica import Replica
from projections.reactors.attempts import Begun
from projections.reactors.reactor_runner import ReactorRunner
from rayfold import Attempt, Reactor, ReactorDefinition, Registry, Rejected, on
from rayfold.runtime import tracing
from rayfold.runtime.log_format import CURRENT_TRACE
from rayfold.runtime.part_process import environment
from rayfold.runtime.tracing import RequestTraces, Sampler, Tracing, start_tracing, traced_in
from tests.collector import Collector, collecting

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-1] + "0"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not trace yet, whatever runs the tests."""
    monkeypatch.setattr(tracing, "_tracing", None)
    for name in [*os.environ]:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def collector(clean: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        yield running


@pytest.fixture
def traces(collector: Collector) -> Iterator[Tracing]:
    made = start_tracing("test")
    assert made is not None
    yield made
    made.close()


def test_without_a_collector_nothing_is_traced(
    clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start_tracing("test") is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert start_tracing("test") is None
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert start_tracing("test") is None


def test_the_callers_trace_flag_decides_and_of_the_others_a_share_is_traced() -> None:
    default = Sampler()
    assert default.takes(SAMPLED)
    assert not default.takes(UNSAMPLED)
    taken = sum(default.takes("") for _ in range(20_000))
    assert 50 < taken < 500  # 200, and nine of its deviations more or less
    assert Sampler("parentbased_traceidratio", "1").takes("")
    assert not Sampler("parentbased_always_off").takes("")
    assert Sampler("parentbased_always_off").takes(SAMPLED)
    assert Sampler("always_on").takes(UNSAMPLED)
    assert not Sampler("always_off").takes(SAMPLED)
    assert not Sampler("traceidratio", "0").takes(SAMPLED)


@pytest.mark.parametrize(
    "told", [("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "x")]
)
def test_an_unknown_sampler_is_refused_and_the_default_is_used(
    told: tuple[str, str],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Sampler(*told)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", told[0])
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", told[1])
    made = start_tracing("test")
    assert made is not None
    assert made.sampler.ratio == tracing.DEFAULT_RATIO
    assert "OTEL_TRACES_SAMPLER has an unknown value" in caplog.text
    made.close()


def test_a_request_continues_its_clients_trace_and_names_it_in_the_log(
    traces: Tracing, collector: Collector
) -> None:
    span = RequestTraces(traces).begin("POST", "/orders/{order_id}/place", SAMPLED)
    assert span is not None
    assert CURRENT_TRACE.get() == span.traceparent
    assert span.trace_id == SAMPLED.split("-")[1]
    span.end("503")
    assert CURRENT_TRACE.get() == ""
    traces.flush()
    [seen] = collector.until(lambda spans: len(spans) == 1)
    assert seen.name == "POST /orders/{order_id}/place"
    assert (seen.trace_id, seen.parent_id) == tuple(SAMPLED.split("-")[1:3])
    assert seen.error
    assert seen.resource["service.name"] == "rayfold"
    assert seen.resource["rayfold.part"] == "test"
    assert collector.paths == {"/v1/traces"}
    assert collector.types == {"application/x-protobuf"}


async def test_a_command_is_traced_to_its_append_and_its_event_and_on_to_a_view(
    traces: Tracing, collector: Collector
) -> None:
    registry, log = Registry.load("domain"), MemoryLog()
    local = LocalRuntime(registry, log)
    command = ReceiveStock(sku="pen", quantity=5)
    envelope = enclose(registry, command, command_id=uuid4())._replace(traceparent=SAMPLED)
    await local.bus.send(envelope)
    await local.send(ReceiveStock(sku="ink", quantity=1))  # of no trace
    replica = Replica(registry, [*registry.views], log)
    following = asyncio.create_task(replica.run())
    async with asyncio.timeout(60):
        await replica.caught_up.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    traces.flush()
    spans = {each.name: each for each in collector.until(lambda spans: len(spans) >= 3)}
    assert set(spans) == {"handle receive-stock", "append", "apply memory"}
    handled, applied = spans["handle receive-stock"], spans["apply memory"]
    assert (handled.trace_id, handled.parent_id) == tuple(SAMPLED.split("-")[1:3])
    assert handled.attributes["rayfold.command_id"] == envelope.command_id
    assert handled.attributes["rayfold.position"] == 1
    assert spans["append"].parent_id == handled.span_id
    assert applied.links == [(handled.trace_id, handled.span_id)]
    assert applied.parent_id == handled.span_id
    [pen] = [Metadata(raw.metadata) async for raw in log.read_stream("stock-pen")]
    [ink] = [Metadata(raw.metadata) async for raw in log.read_stream("stock-ink")]
    assert pen["traceparent"] == f"00-{handled.trace_id}-{handled.span_id}-01"
    assert "traceparent" not in ink


async def test_a_refused_command_is_not_an_error_in_a_trace(
    traces: Tracing, collector: Collector
) -> None:
    registry = Registry.load("domain")
    local = LocalRuntime(registry)
    await local.send(ReceiveStock(sku="pen", quantity=1))
    command = ReserveStock(sku="pen", quantity=9)
    with pytest.raises(Rejected) as refused:
        await local.bus.send(enclose(registry, command)._replace(traceparent=SAMPLED))
    traces.flush()
    handled = next(
        each
        for each in collector.until(lambda spans: len(spans) >= 1)
        if each.name == "handle reserve-stock"
    )
    assert not handled.error
    assert handled.attributes["rayfold.rejected"] == refused.value.rule


class Restock(Reactor, name="restock"):
    """Orders more of what came in, or breaks."""

    traces: ClassVar[list[str]] = []

    @on(StockReceived)
    async def received(self, event: StockReceived, attempt: Attempt) -> None:
        self.traces.append(CURRENT_TRACE.get())
        if event.sku == "broken":
            raise RuntimeError("no more of it")


async def test_a_reactors_attempt_is_traced_and_what_it_logs_names_the_trace(
    traces: Tracing, collector: Collector
) -> None:
    definition = ReactorDefinition(Restock, "restock", 3, 1.0, False)
    log, nobody = MemoryLog(), cast(Any, None)
    registry = Registry.load("domain")
    runner = ReactorRunner(registry, definition, log, nobody, "group", 0, "postgresql://nowhere")
    runner._reactor = Restock()

    def event(sku: str, trace: str) -> RawRecord:
        body = b'{"sku":"%b","quantity":1}' % sku.encode()
        metadata = b'{"schemaVersion":"1","traceparent":"%b"}' % trace.encode()
        return RawRecord("StockReceived", body, metadata, f"stock-{sku}", 0, 1, 0)

    await runner._run_traced(event("pen", SAMPLED), Begun(1, False))
    await runner._run_traced(event("ink", UNSAMPLED), Begun(1, False))
    with pytest.raises(RuntimeError):
        await runner._run_traced(event("broken", SAMPLED), Begun(2, False))
    traces.flush()
    done, broken = collector.until(lambda spans: len(spans) >= 2)
    assert (done.name, done.error, broken.error) == ("react restock", False, True)
    assert (done.trace_id, done.parent_id) == tuple(SAMPLED.split("-")[1:3])
    assert broken.attributes["rayfold.attempt"] == 2
    first, unsampled, last = Restock.traces
    assert (first[3:35], unsampled, last[3:35]) == (done.trace_id, "", broken.trace_id)


def test_of_a_batch_each_sampled_trace_is_listed_once() -> None:
    def event(text: str) -> bytes:
        return b'{"commandId": "c", "traceparent": "%b"}' % text.encode()

    plain, broken = b'{"commandId":"c"}', b'"traceparent"'
    other = SAMPLED.replace("4bf9", "5bf9")
    batch = [plain, event(UNSAMPLED), event(SAMPLED), broken, event(other), event(SAMPLED)]
    assert traced_in(batch) == [SAMPLED, other]
    assert traced_in([plain]) == []


def test_parts_on_other_nodes_are_told_how_to_trace_and_to_log() -> None:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "HOME": "/", "RAYFOLD_LOG_FORMAT": "json"}
    assert set(environment(told)) == {"OTEL_EXPORTER_OTLP_ENDPOINT", "RAYFOLD_LOG_FORMAT"}
    assert environment({"RAYFOLD_LOG_FORMAT": "text", "HOME": "/"}) == {}
    assert environment({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) == {}
