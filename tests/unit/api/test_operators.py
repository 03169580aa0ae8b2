"""Metrics, status, scaling, rebuilding, parked events."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from actors.errors import BadScale, InvalidCommand, Overloaded
from projections.errors import UnknownTarget
from rayfold import Rejected
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import fields_of, problem


async def test_metrics_count_and_measure(gateway: Gateway) -> None:
    await gateway.http.post(f"/orders/{ORDER_ID}/place")
    await gateway.http.get(f"/orders/{ORDER_ID}")
    reply = await gateway.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.text.splitlines()
    assert 'rayfold_commands_total{command="place-order",outcome="accepted"} 1' in lines
    assert 'rayfold_queries_total{query="get-order"} 1' in lines
    assert (
        'rayfold_http_replies_total{method="GET",route="/orders/{order_id}",status="200"} 1'
        in lines
    )
    assert 'rayfold_position{part="memory:all#0"} 5' in lines
    assert 'rayfold_part_node{part="memory:all#0",node="one"} 1' in lines
    sample = re.compile(r'[a-z_]+\{([a-z]+="[^"]*",?)*\} -?[0-9.]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)


async def test_status_lists_the_parts(gateway: Gateway) -> None:
    assert (await gateway.http.get("/operators/status")).json() == {
        "parts": gateway.operations.known,
        "scaling": await gateway.operations.moves(),
        "rebuilds": [],
        "errors": [],
    }


async def test_status_lists_the_last_errors_that_were_ours(gateway: Gateway) -> None:
    place = f"/orders/{ORDER_ID}/place"
    for error in (Overloaded(), KeyError("secret"), Rejected("empty-order", "no")):
        gateway.commands.error = error
        await gateway.http.post(place)
    errors = (await gateway.http.get("/operators/status")).json()["errors"]
    assert [(error["path"], error["status"]) for error in errors] == [(place, 500), (place, 503)]


async def test_verify_lists_the_differences(gateway: Gateway) -> None:
    assert (await gateway.http.get("/operators/verify")).json() == {"differences": []}


async def test_scale_sets_a_number(gateway: Gateway) -> None:
    reply = await gateway.http.post("/operators/scale", json={"target": "memory", "n": 2})
    assert reply.status_code == 200
    assert gateway.operations.scaled == [("memory", 2)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"target": "memory"},
        {"target": 1, "n": 1},
        {"target": "m", "n": "2"},
        [],
        {"target": "m", "n": 1, "x": 1},
    ],
)
async def test_scale_refuses_other_input(gateway: Gateway, body: object) -> None:
    assert fields_of(await gateway.http.post("/operators/scale", json=body))
    problem(await gateway.http.post("/operators/scale", content=b"{"), 400, "malformed")


async def test_scale_explains_why_a_target_cannot_be_scaled(gateway: Gateway) -> None:
    gateway.operations.error = BadScale("no")
    reply = await gateway.http.post("/operators/scale", json={"target": "write", "n": 0})
    problem(reply, 422, "bad-scale")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/operators/rebuild", b"{}"), ("/operators/replay", b"[]"), ("/operators/scale", b"nope")],
)
async def test_wrong_input_of_operators_is_named(gateway: Gateway, path: str, body: bytes) -> None:
    answer = await gateway.http.post(path, content=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_rebuild_is_begun(gateway: Gateway) -> None:
    answer = await gateway.http.post("/operators/rebuild", json={"view": "order-details"})
    assert answer.status_code == 202
    assert answer.json()["view"] == "order-details"
    gateway.operations.error = UnknownTarget("no view is named 'x'")
    answer = await gateway.http.post("/operators/rebuild", json={"view": "x"})
    assert answer.status_code == 422
    assert (await gateway.http.get("/operators/events/order-1/x")).status_code == 422
    assert (await gateway.http.get("/operators/events/order-1/1")).status_code == 404


async def test_events_are_listed_in_pages(gateway: Gateway) -> None:
    page = await gateway.http.get("/operators/events?stream=order-1&after=7&limit=9")
    assert page.json() == {"events": [], "next": 7, "stream": "order-1", "limit": 9}
    assert (await gateway.http.get("/operators/events")).json()["next"] is None
    for wrong in ("after=x", "after=", "after=-1", "limit=0", "limit=1000", "type=x"):
        problem(await gateway.http.get(f"/operators/events?{wrong}"), 422, "invalid-fields")


async def test_a_rebuild_accepts_parked_events_if_it_is_told_to(gateway: Gateway) -> None:
    for body, accepted in (({}, False), ({"accept_parked": True}, True)):
        await gateway.http.post("/operators/rebuild", json={"view": "order-details", **body})
        assert gateway.operations.accepted is accepted


async def test_metrics_show_which_view_was_not_rebuilt(gateway: Gateway) -> None:
    gateway.operations.known_rebuilds = [
        {"view": "order-details", "state": "failed"},
        {"view": "sales-by-day", "state": "done"},
    ]
    lines = (await gateway.http.get("/metrics")).text.splitlines()
    assert 'rayfold_rebuild_failed{view="order-details"} 1' in lines
    assert 'rayfold_rebuild_failed{view="sales-by-day"} 0' in lines


def _parked(position: int) -> dict[str, object]:
    place = {"view": "order-details", "key": "a \n&", "stream": "order-1"}
    return {"store": "memory", **place, "revision": 0, "position": position, "error": "no"}


async def test_parked_events_are_listed_in_pages(gateway: Gateway) -> None:
    operations = gateway.operations
    operations.known_parked = [_parked(at) for at in range(3)]
    page = (await gateway.http.get("/operators/parked?view=order-details&limit=2")).json()
    assert page["parked"] == operations.known_parked[:2]
    assert operations.parked_asked == ("order-details", "", [], 3)
    operations.known_parked = operations.known_parked[2:]
    asked = {"limit": 2, "key": "a", "cursor": page["next_cursor"]}
    page = (await gateway.http.get("/operators/parked", params=asked)).json()
    assert operations.parked_asked == (
        ("", "a", [1, "order-details", "a \n&", "order-1", "memory"], 3)
    )
    assert page == {"parked": operations.known_parked, "next_cursor": None}


@pytest.mark.parametrize(
    "asked",
    [
        "limit=0",
        "limit=1000",
        "cursor=x",
        "cursor=W10",
        "cursor=MQ",
        "cursor=%C3%B0",
        "of=a",
        "cursor=WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAsICIiLCAiIiwgIiIsICIiXQ",
    ],
)
async def test_pages_of_parked_events_refuse_other_parameters(gateway: Gateway, asked: str) -> None:
    problem(await gateway.http.get(f"/operators/parked?{asked}"), 422, "invalid-fields")


async def test_a_stream_is_deleted(gateway: Gateway) -> None:
    answer = await gateway.http.post("/operators/delete", json={"stream": "order-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "stream": "order-1",
        "tombstone": False,
        "kept_in": ["sales-by-day"],
    }
    assert fields_of(await gateway.http.post("/operators/delete", json={"tombstone": True}))
    gateway.operations.error = InvalidCommand("no aggregate has the stream 'x'")
    answer = await gateway.http.post("/operators/delete", json={"stream": "x"})
    problem(answer, 422, "invalid-command")


async def test_persons_are_forgotten(gateway: Gateway) -> None:
    answer = await gateway.http.post("/operators/forget", json={"subjects": ["eve"]})
    assert answer.status_code == 202
    assert answer.json()["unknown"] == ["eve"]
    assert (await gateway.http.get("/operators/forgetting")).json() == {"left": [], "error": ""}
    assert fields_of(await gateway.http.post("/operators/forget", json={"subjects": []}))
    assert fields_of(await gateway.http.post("/operators/forget", json={"subjects": [1]}))
    gateway.operations.error = UnknownTarget("the domain declares no personal data")
    answer = await gateway.http.post("/operators/forget", json={"subjects": ["eve"]})
    assert answer.status_code == 422


async def test_a_parked_event_is_discarded_by_its_row(gateway: Gateway) -> None:
    parked = {"view": "order-details", "key": ORDER_ID}
    answer = await gateway.http.post("/operators/discard", json=parked)
    assert answer.status_code == 200
    assert answer.json()["discarded"][0]["parked"] is False
    assert fields_of(await gateway.http.post("/operators/discard", json={"view": "x"}))
    gateway.operations.error = UnknownTarget("nothing is parked in 'x'")
    answer = await gateway.http.post("/operators/discard", json={"view": "x", "key": "y"})
    problem(answer, 422, "unknown-target")


async def test_the_status_works_without_information_on_scaling_and_rebuilds(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise UnknownTarget("no controller answers")

    monkeypatch.setattr(gateway.operations, "moves", away)
    monkeypatch.setattr(gateway.operations, "rebuilds", away)
    body = (await gateway.http.get("/operators/status")).json()
    assert (body["parts"], body["scaling"], body["rebuilds"]) == (gateway.operations.known, [], [])
    assert (await gateway.http.get("/operators/rebuilds")).status_code == 422


async def test_causality_is_asked_by_any_id_within_a_bound(gateway: Gateway) -> None:
    gateway.operations.causes = {"asked": "k", "commands": []}
    reply = await gateway.http.get("/operators/causality", params={"id": "k", "scan": "7"})
    assert reply.json() == {"asked": "k", "commands": []}
    readings, scan = gateway.operations.traced
    assert readings[0] == "k"
    UUID(readings[1])  # the command id that the key stands for
    assert scan == 7
    await gateway.http.get("/operators/causality", params={"id": "1@order-x"})
    assert gateway.operations.traced[1] == 50_000


@pytest.mark.parametrize(
    "asked", ["", "id=", "id=x&scan=0", "id=x&scan=9999999", "id=x&more=1", f"id={'x' * 2000}"]
)
async def test_causality_refuses_an_id_that_it_cannot_search_for(
    gateway: Gateway, asked: str
) -> None:
    reply = await gateway.http.get(f"/operators/causality?{asked}")
    assert fields_of(reply)


async def test_causality_of_an_unknown_id_says_how_far_it_searched(gateway: Gateway) -> None:
    reply = await gateway.http.get("/operators/causality", params={"id": "x", "scan": "123"})
    assert "123 records" in problem(reply, 404, "not-found")["detail"]
