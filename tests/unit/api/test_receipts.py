"""Accepted commands: what is sent to the writers, and what is answered."""

from __future__ import annotations

import json
import time
from uuid import RFC_4122, UUID

import pytest

from api.http.headers import command_id
from domain.fulfilment.process import Fulfilment
from rayfold import Route
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import problem
from tests.unit.rayfold.test_derived_routes import GetNeighbour, Mark, load

LINE = {"sku": "sku-1", "quantity": 2, "unit_price_cents": 150}


async def test_a_command_is_answered_with_its_receipt(gateway: Gateway) -> None:
    reply = await gateway.http.post(
        "/orders", json={"order_id": ORDER_ID, "customer_id": "customer-1"}
    )
    assert reply.status_code == 202
    body = reply.json()
    assert set(body) == {"command_id", "stream", "revision", "position"}
    assert UUID(body["command_id"]).version == 4
    assert body["stream"] == f"order-{ORDER_ID}"
    assert reply.headers["location"] == f"/orders/{ORDER_ID}"
    assert reply.headers["etag"] == '"7"'
    assert reply.headers["consistency-token"] == "99"


def test_ids_are_uuids_of_version_4_however_many_are_drawn() -> None:
    drawn = [command_id({}) for _ in range(1000)]
    assert len({*drawn}) == len(drawn)
    for each in drawn:
        assert str(UUID(each)) == each
        assert (UUID(each).version, UUID(each).variant) == (4, RFC_4122)


async def test_path_and_body_make_one_command(gateway: Gateway) -> None:
    await gateway.http.post(f"/orders/{ORDER_ID}/lines", json=LINE)
    [envelope] = gateway.commands.sent
    assert envelope.command == "add-line"
    assert envelope.stream == f"order-{ORDER_ID}"
    assert json.loads(envelope.payload) == {"order_id": ORDER_ID, **LINE}


async def test_a_delete_takes_its_fields_from_the_path(gateway: Gateway) -> None:
    reply = await gateway.http.delete(f"/orders/{ORDER_ID}/lines/sku-1")
    assert reply.status_code == 202
    assert gateway.commands.sent[0].command == "remove-line"
    assert json.loads(gateway.commands.sent[0].payload)["sku"] == "sku-1"


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
@pytest.mark.parametrize("body", [b"", b"  \n", b"{}"])
async def test_no_body_means_no_fields(
    gateway: Gateway, content_type: str | None, body: bytes
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place", content=body, headers=headers)
    assert reply.status_code == 202


async def test_the_server_supplies_the_time(gateway: Gateway) -> None:
    await gateway.http.post(f"/orders/{ORDER_ID}/pay")
    assert "at" in json.loads(gateway.commands.sent[0].payload)


async def test_a_missing_id_derives_from_the_key_so_that_a_retry_means_the_same(
    gateway: Gateway,
) -> None:
    for _ in range(2):
        await gateway.http.post(
            "/orders", json={"customer_id": "c"}, headers={"idempotency-key": "order 17"}
        )
    first, second = gateway.commands.sent
    assert UUID(first.stream.removeprefix("order-"))
    assert first.stream == second.stream
    assert first.command_id == second.command_id
    assert first.fingerprint == second.fingerprint


async def test_the_fingerprint_depends_on_all_fields_but_not_on_order_and_time(
    gateway: Gateway,
) -> None:
    path = f"/orders/{ORDER_ID}/lines"
    await gateway.http.post(path, json=LINE)
    await gateway.http.post(path, json=dict(reversed(LINE.items())))
    await gateway.http.post(path, json={**LINE, "quantity": 3})
    same, reordered, other = (envelope.fingerprint for envelope in gateway.commands.sent)
    assert same == reordered != other
    assert len(bytes.fromhex(same)) == 16


async def test_a_uuid_as_idempotency_key_is_the_command_id(gateway: Gateway) -> None:
    reply = await gateway.http.post(
        f"/orders/{ORDER_ID}/place", headers={"idempotency-key": ORDER_ID}
    )
    assert reply.json()["command_id"] == ORDER_ID


async def test_a_command_id_that_a_process_could_use_is_replaced(gateway: Gateway) -> None:
    """A process would take the client's command for its own, and never send its own."""
    of_a_process = Fulfilment.__rayfold__.command_id(ORDER_ID, "timeout:payment:1/0", 0)
    for key in (str(of_a_process), of_a_process.hex.upper()):
        headers = {"idempotency-key": key}
        await gateway.http.post(f"/orders/{ORDER_ID}/place", headers=headers)
    one, other = (envelope.command_id for envelope in gateway.commands.sent)
    assert one == other != str(of_a_process)
    for asked in (str(of_a_process), one):
        told = await gateway.http.get(f"/commands/{asked}")
        assert told.json()["command_id"] == one


async def test_headers_travel_with_the_command(gateway: Gateway) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await gateway.http.post(
        f"/orders/{ORDER_ID}/place",
        headers={
            "if-match": '"0"',
            "traceparent": trace,
            "x-correlation-id": "basket-5",
            "x-causation-id": "click-9",
        },
    )
    [envelope] = gateway.commands.sent
    assert envelope.expected_revision == 0
    assert envelope.traceparent == trace
    assert envelope.correlation_id == "basket-5"
    assert envelope.causation_id == "click-9"
    assert envelope.principal == "anonymous"


@pytest.mark.parametrize(
    "trace", ["x", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01"]
)
async def test_a_bad_trace_context_is_dropped(gateway: Gateway, trace: str) -> None:
    await gateway.http.post(f"/orders/{ORDER_ID}/place", headers={"traceparent": trace})
    assert gateway.commands.sent[0].traceparent == ""


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, 15.0), ("2.5", 2.5), ("0.001", 0.001), ("600", 60.0)]
)
async def test_a_command_has_the_time_that_the_client_gives(
    gateway: Gateway, given: str | None, seconds: float
) -> None:
    headers = {"rayfold-timeout": given} if given else {}
    began = time.monotonic()
    await gateway.http.post(f"/orders/{ORDER_ID}/place", headers=headers)
    ended = time.monotonic()
    assert began + seconds <= gateway.commands.sent[0].deadline <= ended + seconds


async def test_if_match_star_sets_no_expected_revision(gateway: Gateway) -> None:
    await gateway.http.post(f"/orders/{ORDER_ID}/place", headers={"if-match": "*"})
    assert gateway.commands.sent[0].expected_revision is None


async def test_prefer_wait_is_applied_when_the_views_are_there(gateway: Gateway) -> None:
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place", headers={"prefer": "wait=5"})
    assert reply.status_code == 202
    assert reply.headers["preference-applied"] == "wait=5"
    assert gateway.queries.waited == [5.0]


async def test_prefer_wait_names_the_views_that_lag(gateway: Gateway) -> None:
    gateway.queries.behind = ["order-summaries"]
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place", headers={"prefer": "wait=999"})
    assert reply.status_code == 202
    assert "preference-applied" not in reply.headers
    assert reply.headers["rayfold-behind"] == "order-summaries"
    assert gateway.queries.waited == [30.0]


async def test_every_command_can_be_sent_by_its_name_too(gateway: Gateway) -> None:
    reply = await gateway.http.post("/commands/add-line", json={"order_id": ORDER_ID, **LINE})
    assert reply.status_code == 202
    assert reply.headers["location"] == f"/orders/{ORDER_ID}"
    reply = await gateway.http.post("/commands/create-order", json={"customer_id": "c"})
    assert reply.status_code == 202


async def test_stock_is_found_under_its_sku(gateway: Gateway) -> None:
    reply = await gateway.http.post("/stock/nut:7/receive", json={"quantity": 5})
    assert reply.headers["location"] == "/stock/nut%3A7"


async def test_the_location_of_an_aggregate_is_known_even_if_its_row_has_other_events() -> None:
    routes = [
        Route("GET", "/neighbours/{place}", GetNeighbour),
        Route("POST", "/marks/{place}", Mark),
    ]
    gateway = Gateway(load(*routes))
    async with gateway.http as http:
        reply = await http.post("/marks/here")
        assert reply.headers["location"] == "/neighbours/here"


async def test_the_token_of_a_receipt_is_not_older_than_the_clients(gateway: Gateway) -> None:
    for sent, told in (("5", "99"), ("1000", "1000")):
        reply = await gateway.http.post(
            f"/orders/{ORDER_ID}/place", headers={"consistency-token": sent}
        )
        assert reply.headers["consistency-token"] == told
        assert reply.json()["position"] == 99
    before = len(gateway.commands.sent)
    reply = await gateway.http.post(
        f"/orders/{ORDER_ID}/place", headers={"consistency-token": "nope"}
    )
    problem(reply, 400, "malformed")
    assert len(gateway.commands.sent) == before
