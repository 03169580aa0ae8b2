"""A client that always sends its last token never sees an older state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import httpx

from tests.integration.stack.orders import add, create
from tests.stack import Stack, run_rayfold


class Client:
    """Sends back whatever token came last."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.token = ""

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._told(self.http.get(path, headers=self._with(headers)))

    def post(self, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self._told(self.http.post(path, json=body, headers=self._with(headers)))

    def _with(self, headers: dict[str, str]) -> dict[str, str]:
        token = {"Consistency-Token": self.token} if self.token else {}
        return {"Prefer": "wait=30", **token, **headers}

    def _told(self, answer: httpx.Response) -> httpx.Response:
        assert answer.status_code in (200, 202, 404), answer.text
        token = answer.headers["consistency-token"]
        assert int(token) >= int(self.token or 0)
        self.token = token
        return answer


def test_a_client_that_has_seen_a_change_sees_it_in_every_store_and_page(
    stack: Stack, http: httpx.Client
) -> None:
    customer, order = f"c-{uuid4()}", create(http)
    mine = create(http, customer)
    first = {"sku": "first", "quantity": 1, "unit_price_cents": 1}
    key = {"Idempotency-Key": str(uuid4())}
    http.post(f"/orders/{order}/lines", json=first, headers=key)
    done = threading.Event()
    problems: list[str] = []

    def write() -> None:
        with httpx.Client(base_url=stack.url, timeout=60) as own:
            while not done.is_set():
                add(own, order, f"sku-{uuid4().hex[:8]}")
                create(own, customer)

    def read() -> None:
        with httpx.Client(base_url=stack.url, timeout=60) as own:
            client = Client(own)
            lines = orders = 0

            def whole(store: str) -> None:
                nonlocal lines
                found = client.get(f"/orders/{order}", **{"Rayfold-Store": store}).json()
                if len(found["lines"]) < lines:
                    problems.append(f"{store}: {len(found['lines'])} lines after {lines}")
                lines = len(found["lines"])

            def page(store: str) -> None:
                nonlocal orders
                path = f"/orders?customer_id={customer}&limit=200"
                items = client.get(path, **{"Rayfold-Store": store}).json()["items"]
                if len(items) < min(orders, 200):
                    problems.append(f"{store}: {len(items)} orders after {orders}")
                orders = len(items)

            def history(_: str) -> None:
                nonlocal lines
                lines = len(client.get(f"/orders/{order}/history").json()) - 1

            def past(_: str) -> None:
                client.get(f"/orders/{order}?as_of=0")

            def repeat(_: str) -> None:
                client.post(f"/orders/{order}/lines", first, **key)

            steps: list[Callable[[str], None]] = [whole, page, history, page, past, whole, repeat]
            while not done.is_set():
                for step in steps:
                    for store in ("memory", "postgres", "memory"):
                        step(store)

    run_rayfold(stack, "scale", "memory", "2")
    run_rayfold(stack, "scale", "postgres", "2")
    threads = [threading.Thread(target=each) for each in (write, read, read)]
    for thread in threads:
        thread.start()
    try:
        run_rayfold(stack, "rebuild", "order-details")
        run_rayfold(stack, "scale", "memory", "1")
        run_rayfold(stack, "scale", "postgres", "1")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert problems == []
    assert http.get(f"/orders/{mine}").status_code == 200


def test_every_answer_has_a_token(http: httpx.Client) -> None:
    order = create(http)
    token = add(http, order).headers["consistency-token"]
    for path in (
        f"/orders/{order}",
        f"/queries/get-order?order_id={order}",
        "/orders?limit=1",
        f"/orders/{order}/history",
        f"/orders/{order}?as_of=1",
        f"/orders/{uuid4()}",
    ):
        answer = http.get(path, headers={"Consistency-Token": token})
        assert int(answer.headers["consistency-token"]) >= int(token), path


def test_the_past_by_revision_and_by_time(http: httpx.Client) -> None:
    order = create(http)
    add(http, order, "tea")
    [_, added] = http.get(f"/orders/{order}/history").json()
    between = datetime.fromisoformat(added["recorded_at"])
    until = time.monotonic() + 60
    while datetime.now(UTC) <= between:
        assert time.monotonic() < until
    add(http, order, "cake")
    for as_of, lines in (("0", 0), ("1", 1), ("2", 2), ("99", 2)):
        found = http.get(f"/orders/{order}", params={"as_of": as_of}).json()
        assert len(found["lines"]) == lines
    for moment in (added["recorded_at"], between.astimezone().isoformat()):
        found = http.get(f"/orders/{order}", params={"as_of": moment}).json()
        assert [line["sku"] for line in found["lines"]] == ["tea"]
    before = http.get(f"/orders/{order}", params={"as_of": "2020-01-01T00:00:00Z"})
    assert before.status_code == 404


def test_processing_names_the_view_that_lags(http: httpx.Client) -> None:
    order = create(http)
    token = int(add(http, order).headers["consistency-token"])
    ahead = {"Consistency-Token": str(token + 10**12), "Prefer": "wait=0"}
    for store in ("memory", "postgres"):
        for path, view in (
            (f"/orders/{order}", "order-details"),
            ("/orders?limit=1", "order-summaries"),
        ):
            answer = http.get(path, headers={**ahead, "Rayfold-Store": store})
            assert answer.status_code == 202, answer.text
            body = answer.json()
            assert (body["status"], body["view"]) == ("processing", view)
            assert body["position"] < body["wanted"] == token + 10**12
            assert answer.headers["retry-after"] == "1"


def test_a_live_query_continues_where_it_was_and_never_shows_less_than_the_token(
    stack: Stack, http: httpx.Client
) -> None:
    order = create(http)

    def follow(lines: int, **headers: str) -> tuple[str, int]:
        with (
            httpx.Client(base_url=stack.url, timeout=60) as own,
            own.stream("GET", f"/orders/{order}/live", headers=headers) as stream,
        ):
            position = ""
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    position = line[4:]
                elif line.startswith("data: ") and f'"revision":{lines}' in line:
                    return position, lines
        raise AssertionError("the stream ended")

    for number in range(1, 6):
        token = add(http, order, f"sku-{number}").headers["consistency-token"]
        position, _ = follow(number, **{"Consistency-Token": token})
        assert int(position) >= int(token)
    add(http, order, "sku-6")
    follow(6, **{"Last-Event-ID": position})
    malformed = http.get(f"/orders/{order}/live", headers={"Last-Event-ID": "nope"})
    assert malformed.status_code == 400
