"""The main job, end to end, over HTTP on the real parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.integration.stack.orders import add, create, read


@pytest.mark.parametrize("store", ["memory", "postgres"])
def test_an_order_is_created_filled_placed_and_read_back(http: httpx.Client, store: str) -> None:
    order = create(http)
    add(http, order, quantity=2)
    add(http, order)
    add(http, order, "cake", unit_price_cents=300)
    placed = http.post(f"/orders/{order}/place")
    assert placed.status_code == 202
    receipt = placed.json()
    assert receipt["stream"] == f"order-{order}"
    assert receipt["revision"] == 4
    assert placed.headers["etag"] == '"4"'
    assert placed.headers["location"] == f"/orders/{order}"
    found = read(http, order, placed.headers["consistency-token"], store)
    assert found["status"] == "placed"
    assert found["customer_id"] == "ada"
    assert found["lines"] == [
        {"sku": "tea", "quantity": 3, "unit_price_cents": 450},
        {"sku": "cake", "quantity": 1, "unit_price_cents": 300},
    ]
    assert found["total_cents"] == 1650
    assert found["revision"] == 4


def test_both_stores_give_the_same_bytes(http: httpx.Client) -> None:
    order = create(http, "grace")
    token = add(http, order).headers["consistency-token"]
    answers = [
        http.get(f"/orders/{order}", headers={"Consistency-Token": token, "Rayfold-Store": store})
        for store in ("memory", "postgres")
    ]
    assert answers[0].content == answers[1].content


def test_a_repeat_with_the_same_key_gives_the_first_receipt(http: httpx.Client) -> None:
    order = create(http)
    key = {"Idempotency-Key": str(uuid4())}
    line = {"sku": "tea", "quantity": 1, "unit_price_cents": 450}
    first = http.post(f"/orders/{order}/lines", json=line, headers=key)
    add(http, order, "cake")
    again = http.post(f"/orders/{order}/lines", json=line, headers=key)
    assert again.json() == first.json()
    other = http.post(f"/orders/{order}/lines", json=line | {"quantity": 2}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-key-reused"
    assert len(http.get(f"/orders/{order}/history").json()) == 3


def test_a_rejected_command_is_answered_with_the_code_of_its_rule(http: httpx.Client) -> None:
    order = create(http)
    refused = http.post(f"/orders/{order}/place")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "empty-order"
    unknown = add(http, str(uuid4()))
    assert unknown.status_code == 404


def test_if_match_makes_a_command_conditional_on_a_revision(http: httpx.Client) -> None:
    order = create(http)
    line = {"sku": "tea", "quantity": 1, "unit_price_cents": 450}
    path = f"/orders/{order}/lines"
    assert http.post(path, json=line, headers={"If-Match": '"7"'}).status_code == 412
    assert http.post(path, json=line, headers={"If-Match": '"0"'}).status_code == 202
    assert http.post(path, json=line, headers={"If-Match": '"0"'}).status_code == 412


def test_no_line_of_a_hot_order_is_lost(http: httpx.Client) -> None:
    order = create(http)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: add(http, order), range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["revision"] for answer in answers) == list(range(1, 201))
    last = max(int(answer.headers["consistency-token"]) for answer in answers)
    assert read(http, order, str(last))["lines"][0]["quantity"] == 200


def test_stock_is_never_oversold(http: httpx.Client) -> None:
    sku = f"sku-{uuid4().hex[:8]}"
    assert http.post(f"/stock/{sku}/receive", json={"quantity": 50}).status_code == 202
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: http.post(f"/stock/{sku}/reserve", json={"quantity": 1}), range(80))
        )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(202) == 50
    assert statuses.count(409) == 30
    last = max(int(answer.headers["consistency-token"]) for answer in answers if answer.is_success)
    found = http.get(f"/stock/{sku}", headers={"Consistency-Token": str(last)}).json()
    assert (found["on_hand"], found["reserved"], found["available"]) == (50, 50, 0)


def test_pages_follow_each_other_while_orders_are_created(http: httpx.Client) -> None:
    customer = f"customer-{uuid4().hex[:8]}"
    orders = [create(http, customer) for _ in range(7)]
    token = add(http, orders[-1]).headers["consistency-token"]
    for store in ("memory", "postgres"):
        there_before, seen = list(orders), []
        cursor: str | None = None
        while True:
            parameters = {"customer_id": customer, "limit": "3"}
            if cursor:
                parameters["cursor"] = cursor
            page = http.get(
                "/orders",
                params=parameters,
                headers={"Consistency-Token": token, "Rayfold-Store": store},
            ).json()
            seen += [item["order_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            orders.append(create(http, customer))
            if cursor is None or len(seen) > 12:
                break
        assert seen[: len(there_before)] == there_before
        assert len(set(seen)) == len(seen)
        token = add(http, orders[-1]).headers["consistency-token"]


def test_prefer_wait_shows_the_effect_without_a_token(http: httpx.Client) -> None:
    order = create(http)
    line = {"sku": "tea", "quantity": 1, "unit_price_cents": 450}
    waited = http.post(f"/orders/{order}/lines", json=line, headers={"Prefer": "wait=10"})
    assert waited.headers["preference-applied"].startswith("wait=")
    for store in ("memory", "postgres"):
        found = http.get(f"/orders/{order}", headers={"Rayfold-Store": store}).json()
        assert found["revision"] == 1
    command = http.get(f"/commands/{waited.json()['command_id']}").json()
    assert command["status"] == "projected"


def test_the_past_can_be_read(http: httpx.Client) -> None:
    order = create(http)
    add(http, order)
    add(http, order, "cake")
    history = http.get(f"/orders/{order}/history").json()
    assert [event["type"] for event in history] == ["OrderCreated", "LineAdded", "LineAdded"]
    assert [event["revision"] for event in history] == [0, 1, 2]
    then = http.get(f"/orders/{order}", params={"as_of": "1"}).json()
    assert [line["sku"] for line in then["lines"]] == ["tea"]
    at = http.get(f"/orders/{order}", params={"as_of": history[0]["recorded_at"]}).json()
    assert at["lines"] == []
    assert http.get(f"/orders/{order}", params={"as_of": "yesterday"}).status_code == 422


def test_the_log_and_every_view_agree(http: httpx.Client) -> None:
    answer = http.get("/operators/verify", timeout=120)
    assert answer.json() == {"differences": []}


@pytest.mark.parametrize(
    ("target", "number"), [("write", 3), ("write", 1), ("memory", 2), ("memory", 1)]
)
def test_scaling_fails_no_request(http: httpx.Client, target: str, number: int) -> None:
    def order(_: int) -> list[int]:
        made = create(http)
        statuses = [add(http, made).status_code for _ in range(3)]
        token = http.post(f"/orders/{made}/place").headers["consistency-token"]
        headers = {"Consistency-Token": token}
        return [*statuses, http.get(f"/orders/{made}", headers=headers).status_code]

    with ThreadPoolExecutor(9) as pool:
        scaling = pool.submit(
            lambda: http.post("/operators/scale", json={"target": target, "n": number}, timeout=60)
        )
        statuses = [status for each in pool.map(order, range(60)) for status in each]
        assert scaling.result().status_code == 200, scaling.result().text
    assert set(statuses) == {202, 200}
