"""What clients get wrong, and what they are told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.http.problems import MOST_ERRORS
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import fields_of, problem

LINES = f"/orders/{ORDER_ID}/lines"
LINE = {"sku": "sku-1", "quantity": 2, "unit_price_cents": 150}
MIB = 1024 * 1024


@pytest.fixture
async def contracts() -> AsyncIterator[Gateway]:
    """Return a gateway for a domain with Decimals and dates."""
    made = Gateway(Registry.load("tests.unit.api.exact"))
    async with made.http:
        yield made


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"a":1}x',
        b"[]",
        b"3",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"a":NaN}',
        b"[" * 5000,
        b'{"a":' + b"[" * 900 + b"]" * 900 + b',"b":2.0}',
        b'{"a":' + b"[" * 900 + b"]" * 900 + b',"b":"\\u0000"}',
        b'{"a":1e999}',
        b'{"\\ud800":1}',
    ],
)
async def test_a_body_that_is_not_a_json_object_is_malformed(gateway: Gateway, body: bytes) -> None:
    problem(await gateway.http.post("/orders", content=body), 400, "malformed")
    assert not gateway.commands.sent


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"customer_id":"ada","customer_id":"bob"}', "customer_id"),
        (b'{"customer_id":"ada","customer_id":"ada"}', "customer_id"),
        (b'{"customer_id" \t\r\n:"ada","customer\\u005fid" : "bob"}', "customer_id"),
        (b'{"customer_id":"a:b","x":{"a":[{"b":1,"b":2}]}}', "b"),
        (b'{"customer_id":1,"customer_id":":","a":{}}', "customer_id"),
        (b'{"' + b"n" * 5000 + b'":1,"' + b"n" * 5000 + b'":1}', "n" * 80),
    ],
)
async def test_an_object_with_a_name_twice_is_malformed(
    gateway: Gateway, body: bytes, name: str
) -> None:
    """Another program may read the other of the two."""
    said = problem(await gateway.http.post("/orders", content=body), 400, "malformed")
    assert said["detail"] == f"the body has {name!r} twice in one object"
    assert not gateway.commands.sent


@pytest.mark.parametrize("customer", ["a:b", '"customer_id":', '\\":', ": : :", '{"a":1,"a":2}'])
@pytest.mark.parametrize("separator", [":", " :", ": "])
async def test_a_text_that_looks_like_a_repeated_name_is_accepted(
    gateway: Gateway, customer: str, separator: str
) -> None:
    fields = {"customer_id": customer, "order_id": ORDER_ID}
    body = json.dumps(fields, separators=(",", separator))
    assert (await gateway.http.post("/orders", content=body)).status_code == 202
    assert json.loads(gateway.commands.sent[-1].payload)["customer_id"] == customer


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "3"}, "quantity"),
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": None}, "quantity"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"quantity": 10**40}, "quantity"),
        ({"unit_price_cents": -1}, "unit_price_cents"),
        ({"unit_price_cents": [1]}, "unit_price_cents"),
        ({"sku": 7}, "sku"),
        ({"sku": ""}, "sku"),
        ({"sku": "a b"}, "sku"),
        ({"color": "red"}, "color"),
        ({"order_id": ORDER_ID}, "order_id"),
    ],
)
async def test_an_invalid_field_is_named(
    gateway: Gateway, change: dict[str, Any], field: str
) -> None:
    assert fields_of(await gateway.http.post(LINES, json={**LINE, **change})) == {field}
    assert not gateway.commands.sent


async def test_a_value_that_no_view_could_use_as_a_key_is_refused() -> None:
    shop = Gateway(Registry.load("examples.shop"))
    async with shop.http:
        item = {"sku": "x" * 6000, "quantity": 1}
        assert fields_of(await shop.http.post("/baskets/b/items", json=item)) == {"sku"}
    assert not shop.commands.sent


@pytest.mark.parametrize("number", [b"2.0", b"2e0", b"20E-1", b"0.2e1"])
async def test_a_whole_number_is_the_same_however_it_is_written(
    gateway: Gateway, number: bytes
) -> None:
    body = b'{"sku": "1e5", "quantity": %b, "unit_price_cents": 150}' % number
    await gateway.http.post(LINES, content=body)
    await gateway.http.post(LINES, content=body.replace(number, b"2"))
    first, second = gateway.commands.sent
    assert first.payload == second.payload
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("day", ["0", "1700000000", "-1.5", " 7 "])
async def test_a_number_in_quotes_is_not_accepted_as_a_date(gateway: Gateway, day: str) -> None:
    assert fields_of(await gateway.http.get(f"/sales/{day}")) == {"day"}
    assert fields_of(await gateway.http.get("/queries/get-sales", params={"day": day})) == {"day"}
    shop = Gateway(Registry.load("examples.shop"))
    async with shop.http as http:
        assert fields_of(await http.post("/baskets/a/buy", json={"day": day})) == {"day"}


@pytest.mark.parametrize("day", ["0", "1782864000", " -86400 "])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"period": {"first": %s}}', "period.first"),
        ('{"period": {"first": "2026-07-01", "last": %s}}', "period.last"),
        ('{"breaks": [{"first": "2026-07-01"}, {"first": %s}]}', "breaks.1.first"),
        ('{"holidays": ["2026-07-01", %s]}', "holidays.1"),
        ('{"by_name": {"easter": %s}}', "by_name.easter"),
    ],
)
async def test_a_number_in_quotes_is_not_accepted_as_a_date_anywhere(
    contracts: Gateway, body: str, field: str, day: str
) -> None:
    content = (body % json.dumps(day)).replace("{", '{"contract": "a", ', 1)
    assert fields_of(await contracts.http.post("/contracts", content=content)) == {field}
    assert not contracts.commands.sent
    content = (body % '"2026-07-02T00:00:00Z"').replace("{", '{"contract": "a", ', 1)
    if "last" not in body:
        content = content.replace("T00:00:00Z", "")
    assert (await contracts.http.post("/contracts", content=content)).status_code == 202


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        ("1.123456789012345678", "1.123456789012345678"),
        ("12345678901234567.89", "12345678901234567.89"),
        ("1234567890123456789012.00", "1234567890123456789012.00"),
        ("9007199254740993", "9007199254740993"),
        ("0.1", "0.1"),
        ("1.50", "1.5"),
        ("1e2", "100"),
        ("1e400", "1E+400"),
    ],
)
async def test_a_decimal_is_exact_though_it_comes_as_a_number(
    contracts: Gateway, number: str, digits: str
) -> None:
    content = f'{{"contract": "a", "amount": {number}, "rates": {{"a": [{number}, "{number}"]}}}}'
    await contracts.http.post("/contracts", content=content)
    [sent] = contracts.commands.sent
    command = json.loads(sent.payload)
    assert command["amount"] == command["rates"]["a"][0] == digits


@pytest.mark.parametrize("number", ["1.00000000000000000001", "1e400", "1e99999999999999999999"])
async def test_a_decimal_number_is_not_accepted_as_a_whole_one(
    contracts: Gateway, number: str
) -> None:
    content = f'{{"contract": "a", "count": {number}}}'
    assert fields_of(await contracts.http.post("/contracts", content=content)) == {"count"}
    content = '{"contract": "a", "amount": 1e99999999999999999999}'
    assert fields_of(await contracts.http.post("/contracts", content=content)) == {"amount"}


async def test_every_invalid_field_is_named(gateway: Gateway) -> None:
    reply = await gateway.http.post(LINES, json={"sku": 1, "quantity": "x", "more": 1})
    assert fields_of(reply) == {"sku", "quantity", "unit_price_cents", "more"}


async def test_of_many_invalid_fields_only_some_are_listed(
    gateway: Gateway,
) -> None:
    body = {f"k{n}": 1 for n in range(1_000)}
    reply = await gateway.http.post("/orders", json=body)
    document = problem(reply, 422, "invalid-fields")
    assert len(document["errors"]) == MOST_ERRORS
    assert "of 1001" in document["detail"]
    assert len(reply.content) < 32 * 1024


async def test_a_field_that_the_server_supplies_is_refused(gateway: Gateway) -> None:
    body = {"customer_id": "c", "at": "2026-01-01T00:00:00Z"}
    assert fields_of(await gateway.http.post("/orders", json=body)) == {"at"}


@pytest.mark.parametrize("order_id", ["17", "not-a-uuid", ORDER_ID + "0", None, 5])
async def test_an_id_in_the_body_must_be_a_uuid(gateway: Gateway, order_id: Any) -> None:
    reply = await gateway.http.post("/orders", json={"order_id": order_id, "customer_id": "c"})
    assert fields_of(reply) == {"order_id"}


@pytest.mark.parametrize(
    "path", ["/orders/17", "/orders/17/history", "/orders/17/live", "/orders/17?as_of=1"]
)
async def test_an_id_in_the_path_of_a_query_must_be_a_uuid(gateway: Gateway, path: str) -> None:
    assert fields_of(await gateway.http.get(path)) == {"order_id"}


async def test_an_id_in_the_path_of_a_command_must_be_a_uuid(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.post("/orders/17/place")) == {"order_id"}


@pytest.mark.parametrize("text", ["a\x00b", "\x00"])
async def test_a_nul_character_is_refused(gateway: Gateway, text: str) -> None:
    reply = await gateway.http.post("/orders", json={"customer_id": text})
    assert fields_of(reply) == {"customer_id"}
    assert fields_of(await gateway.http.get("/orders", params={"customer_id": text})) == {
        "customer_id"
    }


async def test_an_escaped_backslash_is_not_taken_for_a_nul_character(gateway: Gateway) -> None:
    reply = await gateway.http.post("/orders", json={"customer_id": "a\\u0000"})
    assert reply.status_code == 202


async def test_a_body_of_one_mebibyte_is_read(gateway: Gateway) -> None:
    body = b'{"customer_id":"c"}'.ljust(MIB)
    assert (await gateway.http.post("/orders", content=body)).status_code == 202


async def test_a_larger_body_is_too_large(gateway: Gateway) -> None:
    body = b'{"customer_id":"c"}'.ljust(MIB + 1)
    problem(await gateway.http.post("/orders", content=body), 413, "too-large")


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
async def test_a_compressed_body_is_refused_with_what_is_accepted(
    gateway: Gateway, coding: str
) -> None:
    for path in ("/orders", "/operators/scale"):
        body, headers = b'{"customer_id":"c"}', {"content-encoding": coding}
        reply = await gateway.http.post(path, content=body, headers=headers)
        assert coding in problem(reply, 415, "unsupported-media-type")["detail"]
        assert reply.headers["accept-encoding"] == "identity"
    plain = {"content-encoding": "Identity"}
    assert (await gateway.http.post("/orders", content=body, headers=plain)).status_code == 202


async def test_a_chunked_body_is_not_read_to_its_end(gateway: Gateway) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield b" " * (MIB // 8)

    reply = await gateway.http.post("/orders", content=chunks())
    problem(reply, 413, "too-large")
    assert reply.headers["connection"] == "close"
    assert taken < 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("if-match", "7"),
        ("if-match", '"x"'),
        ("if-match", 'W/"7"'),
        ("if-match", '"7'),
        ("if-match", '"7", "8"'),
        ("if-match", '"-1"'),
        ("if-match", '"' + "9" * 40 + '"'),
        ("rayfold-timeout", ""),
        ("rayfold-timeout", "soon"),
        ("rayfold-timeout", "-1"),
        ("rayfold-timeout", "inf"),
        ("idempotency-key", ""),
        ("idempotency-key", "k" * 256),
    ],
)
async def test_a_command_header_that_cannot_be_read(
    gateway: Gateway, name: str, value: str
) -> None:
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place", headers={name: value})
    problem(reply, 400, "malformed")
    assert not gateway.commands.sent


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("consistency-token", "x", "malformed"),
        ("consistency-token", "-1", "malformed"),
        ("consistency-token", "9" * 40, "malformed"),
        ("rayfold-store", "oracle", "no-such-store"),
    ],
)
async def test_a_query_header_that_cannot_be_read(
    gateway: Gateway, name: str, value: str, kind: str
) -> None:
    problem(await gateway.http.get(f"/orders/{ORDER_ID}", headers={name: value}), 400, kind)


@pytest.mark.parametrize(
    ("query_string", "field"),
    [
        ("limit=abc", "limit"),
        ("limit=0", "limit"),
        ("limit=100000", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=lost", "status"),
        ("color=red", "color"),
        ("customer_id=", "customer_id"),
    ],
)
async def test_an_invalid_parameter_is_named(
    gateway: Gateway, query_string: str, field: str
) -> None:
    assert fields_of(await gateway.http.get(f"/orders?{query_string}")) == {field}


async def test_a_parameter_cannot_repeat_the_path(gateway: Gateway) -> None:
    assert fields_of(await gateway.http.get(f"/orders/{ORDER_ID}?order_id={ORDER_ID}")) == {
        "order_id"
    }


@pytest.mark.parametrize("path", ["/", "/nope", "/orders/1/2/3/4", "/%00", "/orders/%ff/x"])
async def test_an_unknown_path_is_a_problem(gateway: Gateway, path: str) -> None:
    problem(await gateway.http.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/orders", "GET, HEAD, OPTIONS, POST"),
        (f"/orders/{ORDER_ID}", "GET, HEAD, OPTIONS"),
        (f"/orders/{ORDER_ID}/place", "OPTIONS, POST"),
        ("/commands/place-order", "OPTIONS, POST"),
        ("/commands/17", "DELETE, GET, HEAD, OPTIONS"),
        ("/health/live", "GET, HEAD, OPTIONS"),
    ],
)
async def test_the_allow_header_is_the_same_everywhere(
    gateway: Gateway, path: str, allow: str
) -> None:
    for method in ("PUT", "PATCH", "TRACE"):
        reply = await gateway.http.request(method, path)
        problem(reply, 405, "method-not-allowed")
        assert reply.headers["allow"] == allow
    reply = await gateway.http.options(path)
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("idempotency-key", ("a", "b")),
        ("idempotency-key", ("a", "a")),
        ("if-match", ('"1"', '"2"')),
        ("consistency-token", ("1", "2")),
        ("rayfold-timeout", ("1", "2")),
        ("content-type", ("application/json", "text/plain")),
    ],
)
async def test_a_header_with_one_value_is_given_once(
    gateway: Gateway, name: str, values: tuple[str, str]
) -> None:
    headers = [(name, value) for value in values]
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place", headers=headers)
    assert name in problem(reply, 400, "malformed")["detail"]
    assert not gateway.commands.sent


async def test_a_header_that_is_a_list_may_come_in_parts(gateway: Gateway) -> None:
    headers = [("prefer", "return=minimal"), ("prefer", "wait=3"), ("x-else", "1"), ("x-else", "2")]
    reply = await gateway.http.get(f"/orders/{ORDER_ID}", headers=headers)
    assert reply.headers["preference-applied"] == "return=minimal"
    tag = (await gateway.http.get(f"/orders/{ORDER_ID}")).headers["etag"]
    headers = [("if-none-match", '"1"'), ("if-none-match", tag)]
    assert (await gateway.http.get(f"/orders/{ORDER_ID}", headers=headers)).status_code == 304


async def test_an_encoded_slash_is_part_of_an_id(registry: Registry) -> None:
    shop = Gateway(Registry.load("examples.shop"))
    async with shop.http as http:
        for path in ("/baskets/a%2Fb/buy", "/baskets/a%2fb/buy"):
            reply = await http.post(path, json={"day": "2026-11-24"})
            assert reply.status_code == 202
            assert reply.headers["location"] == "/baskets/a%2Fb"
        assert {envelope.stream for envelope in shop.commands.sent} == {"basket-a/b"}
        await http.get("/baskets/%2F")
        await http.get("/baskets/a%252Fb")
        asked = [query.model_dump()["basket_id"] for query, *_ in shop.queries.asked]
        assert asked == ["/", "a%2Fb"]
        problem(await http.get("/baskets/a%2Fb%00"), 404, "not-found")
        problem(await http.get("/baskets%2Fa"), 404, "not-found")


async def test_unknown_names_are_not_found(gateway: Gateway) -> None:
    problem(await gateway.http.post("/commands/explode", json={}), 404, "unknown-command")
    problem(await gateway.http.get("/queries/explode"), 404, "unknown-query")


@pytest.mark.parametrize(
    "path", ["//operators/status", "/operators//status", "/orders//lines", "//"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_two_slashes_are_not_treated_as_one(gateway: Gateway, method: str, path: str) -> None:
    """Rules of a proxy match paths as they are written; and an id must not be empty."""
    url = f"http://gateway{path}"
    problem(await gateway.http.request(method, url, content=b"{}"), 404, "not-found")
    assert not gateway.commands.sent


async def test_encoded_slashes_belong_to_an_id(gateway: Gateway) -> None:
    """They reach the route, and are refused there because this id may not have slashes."""
    reply = await gateway.http.post("/stock/a%2F%2Fb/receive", content=b'{"quantity":1}')
    assert fields_of(reply) == {"sku"}
