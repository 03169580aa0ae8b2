"""A domain of a user's own, with what goes beyond keyed folds, on the real stack."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from eventstore.kurrentdb.log import EventLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from tests.stack import Stack, run_rayfold

DAY = "2026-11-24"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`rayfold up` with the shop."""
    running = Stack(tmp_path_factory.mktemp("shop") / "data", RAYFOLD_DOMAIN="examples.shop")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def http(shop: Stack) -> Iterator[httpx.Client]:
    """A client of its gateway."""
    with httpx.Client(base_url=shop.url, timeout=60) as client:
        yield client


def put(http: httpx.Client, basket: str, sku: str, quantity: int = 1) -> str:
    answer = http.post(f"/baskets/{basket}/items", json={"sku": sku, "quantity": quantity})
    assert answer.status_code == 202, answer.text
    return answer.headers["consistency-token"]


def buy(http: httpx.Client, basket: str, **headers: str) -> httpx.Response:
    answer = http.post(f"/baskets/{basket}/buy", json={"day": DAY}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


def asked(http: httpx.Client, path: str, token: str) -> httpx.Response:
    answer = http.get(path, headers={"Consistency-Token": token, "Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["consistency-token"]) >= int(token)
    return answer


def test_a_token_makes_writes_visible_in_sql_and_shared_views(
    http: httpx.Client,
) -> None:
    tea, jam = f"tea-{uuid4()}", f"jam-{uuid4()}"
    for number in range(1, 21):
        basket = uuid4().hex
        put(http, basket, jam)
        token = put(http, basket, tea, 2)
        row = asked(http, f"/baskets/{basket}", token).json()
        assert row["items"] == {jam: 1, tea: 2}
        token = buy(http, basket).headers["consistency-token"]
        page = asked(http, f"/queries/top-sellers?day={DAY}&limit=200", token).json()
        sold = {item["sku"]: item["quantity"] for item in page["items"]}
        assert (sold[tea], sold[jam]) == (2 * number, number)
        wanted = asked(http, f"/baskets/{basket}/demand", token).json()
        assert wanted == {
            "basket_id": basket,
            "bought": True,
            "wanted": {jam: number, tea: 2 * number},
        }


def test_a_command_can_wait_for_both(http: httpx.Client) -> None:
    basket = uuid4().hex
    put(http, basket, "nuts")
    answer = buy(http, basket, Prefer="wait=30")
    assert answer.headers.get("preference-applied") == "wait=30"
    assert http.get(f"/baskets/{basket}").json()["bought_on"] == DAY
    receipt = answer.json()
    assert http.get(f"/commands/{receipt['command_id']}").json()["status"] == "projected"


def test_no_query_fails_and_nothing_is_counted_twice_whatever_operators_do(
    shop: Stack, http: httpx.Client
) -> None:
    done = threading.Event()
    statuses: Counter[int] = Counter()
    wrong: list[object] = []

    def client() -> None:
        sku, count = f"sku-{uuid4()}", 0
        with httpx.Client(base_url=shop.url, timeout=60) as own:
            while not done.wait(0.05):  # others test beside us
                basket = uuid4().hex
                put(own, basket, sku)
                token = buy(own, basket).headers["consistency-token"]
                count += 1
                headers = {"Consistency-Token": token, "Prefer": "wait=30"}
                answer = own.get(f"/demand/{sku}", headers=headers)
                statuses[answer.status_code] += 1
                if answer.json().get("quantity") != count:
                    wrong.append((count, answer.json()))
                answer = own.get(f"/bestsellers/{DAY}?limit=200", headers=headers)
                statuses[answer.status_code] += 1
                sold = {each["sku"]: each["quantity"] for each in answer.json().get("items", ())}
                if sold.get(sku) != count:
                    wrong.append((count, sold))

    clients = [threading.Thread(target=client) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        run_rayfold(shop, "scale", "postgres:demand", "2")
        for name in ("bestsellers", "demand"):
            assert run_rayfold(shop, "rebuild", name).startswith(f"{name}: rebuilt in postgres")
        _kill_one(http, "competing:demand")
        _kill_one(http, "sql:bestsellers")
        _wait_until_ready(http)
        run_rayfold(shop, "scale", "postgres:demand", "1")
    finally:
        done.set()
        for each in clients:
            each.join()
    assert set(statuses) == {200}
    assert wrong == []
    assert http.get("/operators/verify").json() == {"differences": []}
    parts = {part["part"]: part for part in http.get("/operators/status").json()["parts"]}
    assert "sql:bestsellers" in parts
    assert len([name for name in parts if name.startswith("competing:demand")]) == 1
    assert run_rayfold(shop, "parked", "list") == "0 parked\n"
    line = run_rayfold(shop, "parked", "discard", "demand", "tea", code=2)
    assert "nothing is parked" in line


def _kill_one(http: httpx.Client, name: str) -> None:
    parts = http.get("/operators/status").json()["parts"]
    victim = next(part for part in parts if part["part"].startswith(name))
    psutil.Process(victim["pid"]).kill()


def _wait_until_ready(http: httpx.Client) -> None:
    _until(lambda: http.get("/health/parts").status_code == 200)


def test_an_event_that_nobody_can_read_is_discarded_view_by_view(
    shop: Stack, http: httpx.Client
) -> None:
    basket, sku = uuid4().hex, f"tea-{uuid4()}"
    put(http, basket, sku)
    asyncio.run(_append_unreadable(shop, f"basket-{basket}"))
    later = uuid4().hex
    put(http, later, sku, 5)
    parked = _until(lambda: len(_parked(http)) == 3 and _parked(http))
    assert {(each["view"], each["key"]) for each in parked} == {
        ("baskets", ""),
        ("demand", ""),
        ("bestsellers", f"1@basket-{basket}"),
    }
    assert "Unheard" in run_rayfold(shop, "parked", "show", "bestsellers", f"1@basket-{basket}")
    # Consumers park a stream and go on; the projection has stopped, and says so.
    assert http.get(f"/baskets/{later}").status_code == 200
    row = http.get(f"/baskets/{basket}").json()
    assert http.get(f"/baskets/{basket}?as_of=9").json() == row
    _wait_until_ready(http)
    assert "Unheard" in _until(lambda: _stopped(http))["bestsellers"]
    token = buy(http, later).headers["consistency-token"]
    late = http.get(f"/bestsellers/{DAY}", headers={"Consistency-Token": token, "Prefer": "wait=0"})
    assert (late.status_code, late.json()["view"]) == (202, "bestsellers")
    for view, key in (
        ("bestsellers", f"1@basket-{basket}"),
        ("baskets", f"basket-{basket}"),
        ("demand", f"basket-{basket}"),
    ):
        assert "discarded" in run_rayfold(shop, "parked", "discard", view, key)
    assert _parked(http) == []
    page = asked(http, f"/bestsellers/{DAY}?limit=200", token).json()
    assert {"sku": sku, "quantity": 5} in page["items"]
    assert asked(http, f"/demand/{sku}", token).json()["quantity"] == 6
    _wait_until_ready(http)
    assert http.get("/operators/verify").json() == {"differences": []}
    # For good: also who folds again leaves it out.
    run_rayfold(shop, "rebuild", "bestsellers")
    run_rayfold(shop, "rebuild", "demand")
    assert _parked(http) == []


def _parked(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/operators/parked").json()["parked"]
    return found


def _stopped(http: httpx.Client) -> Any:
    """Return what has stopped, as the gateway saw it when it last asked: once a second."""
    parts = http.get("/operators/status").json()["parts"]
    [part] = [each for each in parts if each["kind"] == "sql"]
    return part.get("stopped")


async def _append_unreadable(shop: Stack, stream: str) -> None:
    log = EventLog((shop.data / "eventstore.uri").read_text())
    record = NewRecord("Unheard", b"{}", {}, str(uuid4()))
    await log.append([StreamAppend(stream, 0, [record])])
    await log.close()


def _until(told: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (found := told()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


def test_the_next_up_on_the_same_data_has_everything(shop: Stack, http: httpx.Client) -> None:
    basket, sku = uuid4().hex, f"tea-{uuid4()}"
    put(http, basket, sku, 3)
    token = buy(http, basket).headers["consistency-token"]
    asked(http, f"/demand/{sku}", token)
    assert shop.stop() == 0
    shop.start()
    assert http.get(f"/demand/{sku}").json()["quantity"] == 3
    page = http.get(f"/queries/top-sellers?day={DAY}&limit=200").json()
    assert {"sku": sku, "quantity": 3} in page["items"]
    token = put(http, uuid4().hex, sku)
    assert asked(http, f"/demand/{sku}", token).json()["quantity"] == 4
    assert http.get("/operators/verify").json() == {"differences": []}
