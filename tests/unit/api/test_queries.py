"""Queries: the bytes of a store, and the headers around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain.orders.views import OrderDetails
from projections.errors import BadQuery, Behind, QueryFailed
from rayfold import Answer, Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, ROW
from tests.unit.api.problems import problem

ORDER = f"/orders/{ORDER_ID}"


async def test_the_body_is_the_bytes_of_the_store(gateway: Gateway) -> None:
    reply = await gateway.http.get(ORDER)
    assert reply.status_code == 200
    assert reply.content == ROW
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["etag"].startswith('"3-')
    assert reply.headers["consistency-token"] == "42"


@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"1", {tag}', "*"])
async def test_a_body_that_the_client_has_is_not_sent_again(gateway: Gateway, known: str) -> None:
    tag = (await gateway.http.get(ORDER)).headers["etag"]
    reply = await gateway.http.get(ORDER, headers={"if-none-match": known.format(tag=tag)})
    assert reply.status_code == 304
    assert reply.content == b""
    assert reply.headers["etag"] == tag


@pytest.mark.parametrize(
    "changed",
    [
        Answer(ROW.replace(b'"revision":3', b'"revision":4'), 4, 43),
        Answer(ROW.replace(b'"lines":', b'"entries":'), 3, 42),
    ],
    ids=["another revision", "another fold of the same events"],
)
async def test_a_changed_body_is_sent(gateway: Gateway, changed: Answer) -> None:
    tag = (await gateway.http.get(ORDER)).headers["etag"]
    gateway.queries.answer = changed
    reply = await gateway.http.get(ORDER, headers={"if-none-match": tag})
    assert (reply.status_code, reply.content) == (200, changed.body)
    assert reply.headers["etag"] != tag


async def test_the_entity_tag_of_a_row_gives_its_revision_to_a_command(gateway: Gateway) -> None:
    tag = (await gateway.http.get(ORDER)).headers["etag"]
    reply = await gateway.http.post(f"{ORDER}/place", headers={"if-match": tag})
    assert reply.status_code == 202
    assert gateway.commands.sent[0].expected_revision == 3


async def test_a_missing_row_is_not_found(gateway: Gateway) -> None:
    gateway.queries.answer = Answer(None, None, 42)
    reply = await gateway.http.get(ORDER)
    problem(reply, 404, "not-found")
    assert reply.headers["consistency-token"] == "42"


async def test_the_token_and_the_store_are_passed_to_the_bus(gateway: Gateway) -> None:
    await gateway.http.get(ORDER, headers={"consistency-token": "0", "rayfold-store": "postgres"})
    assert [asked[1:] for asked in gateway.queries.asked] == [(0, "postgres")]


async def test_a_store_that_lags_is_answered_as_processing(gateway: Gateway) -> None:
    gateway.queries.error = Behind("order-details", 40, 99)
    reply = await gateway.http.get(ORDER, headers={"consistency-token": "99"})
    assert reply.status_code == 202
    assert reply.json()["status"] == "processing"
    assert reply.json()["view"] == "order-details"
    assert reply.headers["retry-after"] == "1"


async def test_a_query_may_say_how_long_to_wait_for_its_token(gateway: Gateway) -> None:
    await gateway.http.get(ORDER, headers={"consistency-token": "99", "prefer": "wait=7"})
    await gateway.http.get(ORDER, headers={"consistency-token": "99"})
    assert gateway.queries.timeouts == [7.0, 2.0]


async def test_a_page_has_a_token_and_no_entity_tag(gateway: Gateway) -> None:
    page = b'{"items":[],"next_cursor":null}'
    gateway.queries.answer = Answer(page, None, 42)
    reply = await gateway.http.get("/orders?customer_id=c&status=open&limit=5")
    assert reply.content == page
    assert "etag" not in reply.headers
    assert reply.headers["consistency-token"] == "42"
    query = gateway.queries.asked[0][0]
    assert query.model_dump() == {
        "customer_id": "c",
        "status": "open",
        "limit": 5,
        "cursor": None,
    }


async def test_every_query_goes_by_its_name_too(gateway: Gateway) -> None:
    reply = await gateway.http.get(f"/queries/get-order?order_id={ORDER_ID}")
    assert reply.content == ROW


async def test_the_entity_tag_of_a_row_of_many_streams_depends_on_its_content(
    gateway: Gateway,
) -> None:
    """Two orders of one day may both be at the same revision of their own streams."""
    tags = []
    for orders in (1, 2):
        gateway.queries.answer = Answer(b'{"orders":%d,"revision":4}' % orders, 4, 42)
        tags.append((await gateway.http.get("/sales/2026-11-24")).headers["etag"])
    for path in ("/sales/2026-11-24", "/queries/get-sales?day=2026-11-24"):
        for tag, status in zip(tags, (200, 304), strict=True):
            reply = await gateway.http.get(path, headers={"if-none-match": tag})
            assert (reply.status_code, reply.headers["etag"]) == (status, tags[1])


async def test_a_row_of_many_streams_has_no_past_and_can_be_followed(gateway: Gateway) -> None:
    was = problem(await gateway.http.get("/sales/2026-11-24?as_of=0"), 422, "invalid-fields")
    assert "events of one aggregate" in was["errors"][0]["message"]
    past = problem(await gateway.http.get("/sales/2026-11-24/history"), 404, "not-found")
    assert "events of one aggregate" in past["detail"]
    paths = (await gateway.http.get("/schema")).json()["paths"]
    assert "/sales/{day}/live" in paths
    assert "/sales/{day}/history" not in paths


async def test_head_is_get_without_a_body(gateway: Gateway) -> None:
    reply = await gateway.http.head(ORDER)
    assert reply.status_code == 200
    assert reply.headers["etag"] == (await gateway.http.get(ORDER)).headers["etag"]


MEDIA_TYPE = "application/vnd.rayfold.minimal+json"
MINIMAL = [
    {"prefer": "return=minimal"},
    {"prefer": 'wait=5, Return="minimal"'},
    {"accept": MEDIA_TYPE},
    {"accept": f"{MEDIA_TYPE};q=0.9, application/json;q=0.5"},
]


@pytest.mark.parametrize("headers", MINIMAL)
async def test_the_minimal_document_has_no_revision(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    reply = await gateway.http.get(ORDER, headers=headers)
    assert reply.json() == {"order_id": ORDER_ID, "lines": []}
    assert reply.headers["etag"].startswith('"3-')
    assert reply.headers["vary"] == "Accept, Prefer"
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert ("preference-applied" in reply.headers) == ("prefer" in headers)
    assert gateway.queries.asked[0][0].__rayfold__.name == "get-order-entries"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/json"},
        {"content-type": "application/json"},
        {"content-type": MEDIA_TYPE},
        {"prefer": "return=representation"},
    ],
)
async def test_without_a_preference_the_whole_document_is_returned(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    reply = await gateway.http.get(ORDER, headers=headers)
    assert reply.content == ROW
    assert reply.headers["vary"] == "Accept, Prefer"
    assert gateway.queries.asked[0][0].__rayfold__.name == "get-order"


async def test_the_minimal_document_may_be_missing_or_unchanged(gateway: Gateway) -> None:
    tag = (await gateway.http.get(ORDER, headers=MINIMAL[0])).headers["etag"]
    known = {**MINIMAL[0], "if-none-match": tag}
    assert (await gateway.http.get(ORDER, headers=known)).status_code == 304
    gateway.queries.answer = Answer(None, None, 42)
    problem(await gateway.http.get(ORDER, headers=MINIMAL[0]), 404)


async def test_a_row_of_a_view_not_in_memory_cannot_be_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_postgres = replace(OrderDetails.__rayfold__, stores=("postgres",))
    monkeypatch.setattr(OrderDetails, "__rayfold__", in_postgres)
    without = Gateway(Registry.load("domain"))
    async with without.http as http:
        problem(await http.get(f"{ORDER}/live"), 404)
        assert (await http.get(f"{ORDER}/history")).status_code == 200
        assert "/orders/{order_id}/live" not in (await http.get("/schema")).json()["paths"]


@pytest.fixture
async def shop() -> AsyncIterator[Gateway]:
    """Return a gateway of a domain with queries in SQL, and composed ones."""
    made = Gateway(Registry.load("examples.shop"))
    async with made.http:
        yield made


async def test_queries_in_sql_and_composed_queries_have_the_same_routes(shop: Gateway) -> None:
    body = b'{"items":[],"more":false}'
    shop.queries.answer = Answer(body, None, 42)
    for path in ("/queries/top-sellers?day=2026-11-24&limit=5", "/bestsellers/2026-11-24?limit=5"):
        reply = await shop.http.get(path)
        assert (reply.status_code, reply.content) == (200, body)
        assert reply.headers["consistency-token"] == "42"
    assert (await shop.http.get("/baskets/a/demand")).status_code == 200
    names = [query.__rayfold__.name for query, *_ in shop.queries.asked]
    assert names == ["top-sellers", "top-sellers", "get-basket-and-demand"]
    problem(await shop.http.get("/queries/top-sellers?day=2026-11-24&limit=500"), 422)
    for error, status in ((BadQuery("no"), 422), (QueryFailed("no"), 500)):
        shop.queries.error = error
        problem(await shop.http.get("/bestsellers/2026-11-24"), status)


async def test_the_log_says_in_which_line_a_query_of_the_domain_raised(
    shop: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    why = KeyError("x")
    shop.queries.error = QueryFailed("'get-basket-and-demand' broke: KeyError: 'x'")
    shop.queries.error.__cause__ = why
    problem(await shop.http.get("/baskets/a/demand"), 500, "domain-failed")
    [told] = [each for each in caplog.records if each.msg == "the domain's query failed"]
    assert told.exc_info is not None
    assert told.exc_info[1] is why
