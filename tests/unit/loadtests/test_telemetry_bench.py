"""What `make bench` tells of telemetry's cost, from turns that were measured."""

from __future__ import annotations

import json
import os

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadtests.bench.budgets import telemetry_budgets
from loadtests.bench.telemetry import Sink, Turn, environment, summary, ways
from loadtests.bench.telemetry_alone import Alone

ALONE = Alone(off_us=60.0, default_adds_us=10.0, all_adds_us=200.0)


def turns(*cpu: float, spans: float = 0.0) -> list[Turn]:
    return [Turn(each, 2000.0, spans) for each in cpu]


FOUND = summary(
    {
        "off": turns(0.49, 0.98, 0.49, 0.5),
        "off again": turns(0.51, 1.02, 0.51, 0.5),
        # One cycle beside other work, and one in which somebody else had the machine.
        "default": turns(0.51, 1.02, 0.51, 0.9, spans=0.05),
        "all": turns(0.9, 1.8, 0.9, 0.9, spans=4.0),
    },
    ALONE,
)


def test_a_disturbed_cycle_does_not_change_the_ratio() -> None:
    assert FOUND.off_ms == pytest.approx(0.5)
    assert FOUND.alike_ratio == pytest.approx(0.51 / 0.49)
    assert FOUND.default_ratio == pytest.approx(1.02)
    assert FOUND.all_ratio == pytest.approx(1.8)


def test_the_cost_of_a_span_is_what_tracing_every_write_adds() -> None:
    assert FOUND.span_ms == pytest.approx(0.1)
    assert FOUND.by_spans_ratio == pytest.approx(1 + 0.1 * 0.05 / 0.5)


def test_the_extra_cpu_of_one_process_is_compared_with_a_write_of_all_parts() -> None:
    assert FOUND.alone_ratio == pytest.approx(1 + 10 / 500)


def test_the_default_rate_may_add_five_percent() -> None:
    judged = telemetry_budgets(FOUND)
    assert [(each.bound, each.verdict) for each in judged] == [(1.05, "pass")] * 3
    dear = FOUND._replace(default_ratio=1.06, alone=ALONE._replace(default_adds_us=30.0))
    assert [each.verdict for each in telemetry_budgets(dear)] == ["short", "pass", "short"]


def test_figures_that_were_not_measured_are_marked() -> None:
    [only] = telemetry_budgets(None)
    assert only.verdict == "not measured"


def test_the_figures_go_into_the_results() -> None:
    told = json.loads(json.dumps(FOUND.figures()))
    assert told["default_ratio"] == pytest.approx(1.02)
    assert told["alone"]["default_adds_us"] == 10.0


def test_a_stack_is_started_with_only_the_environment_of_its_way() -> None:
    for way, names in (("off", set()), ("all", {"OTEL_TRACES_SAMPLER"})):
        given = ways("http://127.0.0.1:1")[way]
        before = dict(os.environ)
        with environment(given):
            assert os.environ.items() >= given.items()
        assert dict(os.environ) == before
        assert given.keys() >= names
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in ways("http://127.0.0.1:1")["off"]


def test_the_sink_counts_spans() -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.spans.add(name="a")
    scope.spans.add(name="b")
    sink = Sink()
    sink.take(request.SerializeToString())
    assert sink.spans == 2
