"""Requests that are traced, and how long requests took, with a trace to look at."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from api.operators.histogram import BOUNDS, Histogram
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID

CLIENTS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OURS = "00-4bf92f3577b34da6a3ce929d0e0e4736-aaaaaaaaaaaaaaaa-01"


class FakeSpan:
    """Keeps what is said of it."""

    traceparent = OURS
    trace_id = OURS[3:35]

    def __init__(self) -> None:
        self.said: dict[str, object] = {}
        self.ended: list[object] = []

    def set(self, name: str, value: object) -> None:
        self.said[name] = value

    def end(self, error: object = None) -> None:
        self.ended.append(error)


class FakeTraces:
    """Traces what came with a trace."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, str]] = []
        self.spans: list[FakeSpan] = []

    def begin(self, method: str, route: str, traceparent: str) -> FakeSpan | None:
        self.begun.append((method, route, traceparent))
        if not traceparent:
            return None
        self.spans.append(FakeSpan())
        return self.spans[-1]


@pytest.fixture
def traces() -> FakeTraces:
    return FakeTraces()


@pytest.fixture
async def traced(registry: Registry, traces: FakeTraces) -> AsyncIterator[Gateway]:
    made = Gateway(registry, options={"traces": traces})
    async with made.http:
        yield made


PLACE = f"/orders/{ORDER_ID}/place"


async def test_a_command_continues_the_span_of_its_request(
    traced: Gateway, traces: FakeTraces
) -> None:
    await traced.http.post(PLACE, headers={"traceparent": CLIENTS})
    assert traces.begun == [("POST", "/orders/{order_id}/place", CLIENTS)]
    assert traced.commands.sent[0].traceparent == OURS
    [span] = traces.spans
    assert span.ended == [None]
    assert span.said["http.response.status_code"] == 202
    assert span.said["rayfold.command"] == "place-order"


async def test_an_untraced_request_leaves_no_trace_on_its_events(
    traced: Gateway, traces: FakeTraces
) -> None:
    await traced.http.post(PLACE, headers={"traceparent": "rubbish"})
    assert traces.begun == [("POST", "/orders/{order_id}/place", "")]
    assert traced.commands.sent[0].traceparent == ""


async def test_without_a_collector_a_clients_trace_is_passed_on_as_it_is(gateway: Gateway) -> None:
    await gateway.http.post(PLACE, headers={"traceparent": CLIENTS})
    assert gateway.commands.sent[0].traceparent == CLIENTS


async def test_a_request_that_raises_ends_its_span_with_the_error(
    traced: Gateway, traces: FakeTraces
) -> None:
    traced.commands.error = KeyError("secret")
    assert (await traced.http.post(PLACE, headers={"traceparent": CLIENTS})).status_code == 500
    [span] = traces.spans
    assert len(span.ended) == 1
    assert span.ended[0] is not None


async def test_operators_and_health_are_not_traced(traced: Gateway, traces: FakeTraces) -> None:
    for path in ("/metrics", "/health/live", "/operators/status"):
        await traced.http.get(path, headers={"traceparent": CLIENTS})
    assert traces.begun == []


async def test_metrics_have_the_time_of_requests_by_route(traced: Gateway) -> None:
    for _ in range(3):
        await traced.http.post(PLACE)
    text = (await traced.http.get("/metrics")).text
    labels = 'method="POST",route="/orders/{order_id}/place"'
    assert "# TYPE rayfold_http_seconds histogram" in text
    assert f'rayfold_http_seconds_bucket{{{labels},le="+Inf"}} 3' in text
    assert f"rayfold_http_seconds_count{{{labels}}} 3" in text
    assert "# {trace_id" not in text
    assert "# EOF" not in text


async def test_open_metrics_name_a_trace_for_a_bucket(traced: Gateway) -> None:
    await traced.http.post(PLACE, headers={"traceparent": CLIENTS})
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    reply = await traced.http.get("/metrics", headers={"accept": accept})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    lines = reply.text.splitlines()
    assert lines[-1] == "# EOF"
    assert "# TYPE rayfold_commands counter" in lines
    [exemplar] = [line for line in lines if "# {trace_id" in line]
    sample = re.compile(
        r'rayfold_http_seconds_bucket\{.*le="[0-9.]+"\} 1 '
        r'# \{trace_id="4bf92f3577b34da6a3ce929d0e0e4736"\} [0-9.]+ [0-9.]+'
    )
    assert sample.fullmatch(exemplar)


def test_a_bucket_counts_the_requests_that_took_no_longer() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], 0.02, 99.0):
        histogram.observe(seconds)
    counts = {bound: count for bound, count, _ in histogram.buckets()}
    assert (counts["0.001"], counts["0.01"], counts["0.025"], counts["10.0"]) == (2, 2, 3, 3)
    assert (counts["+Inf"], histogram.count) == (4, 4)
    assert histogram.sum == pytest.approx(99.021)
