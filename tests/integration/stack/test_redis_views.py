"""Views in Redis in a whole `rayfold up`: asked, scaled, rebuilt, verified; a Redis that fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.redis_server import RedisServer
from tests.stack import Stack, run_rayfold

TIMEOUT = 60.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server that is harmed."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def own(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that keeps customers in it."""
    running = Stack(tmp_path_factory.mktemp("stack") / "data", "--redis", redis.url)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def http(own: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own.url, timeout=TIMEOUT) as client:
        yield client


def register(http: httpx.Client, name: str = "Ada") -> tuple[str, str]:
    """Return a new customer's id, and the token of that."""
    customer = str(uuid4())
    email = f"{customer}@example.com"
    body = {"customer_id": customer, "name": name, "email": email}
    answer = http.post("/customers", json=body)
    assert answer.status_code == 202, answer.text
    return customer, answer.headers["consistency-token"]


def rename(http: httpx.Client, customer: str, name: str) -> str:
    answer = http.post(f"/customers/{customer}/profile", json={"name": name})
    assert answer.status_code == 202, answer.text
    return answer.headers["consistency-token"]


def from_redis(http: httpx.Client, path: str, token: str = "", wait: int = 30) -> httpx.Response:
    headers = {"Rayfold-Store": "redis", "Prefer": f"wait={wait}"}
    if token:
        headers["Consistency-Token"] = token
    return http.get(path, headers=headers)


def parts(http: httpx.Client, kind: str) -> list[dict[str, Any]]:
    found = http.get("/operators/status").json()["parts"]
    return [part for part in found if part["kind"] == kind]


def eventually(condition: Any) -> Any:
    """Return what it gives, once that is something."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_customer_is_read_from_redis_with_its_token_and_by_its_index(http: httpx.Client) -> None:
    customer, token = register(http)
    found = from_redis(http, f"/customers/{customer}", token)
    assert found.status_code == 200
    assert found.json()["name"] == "Ada"
    page = from_redis(http, f"/customers?email={customer}@example.com", token).json()
    assert [each["customer_id"] for each in page["items"]] == [customer]
    assert from_redis(http, f"/orders/{customer}").json()["type"] == "/problems/no-such-store"


def test_no_query_fails_while_the_view_is_rebuilt_and_scaled(
    own: Stack, http: httpx.Client
) -> None:
    done = threading.Event()
    statuses: Counter[int] = Counter()
    stale = 0

    def client() -> None:
        nonlocal stale
        with httpx.Client(base_url=own.url, timeout=TIMEOUT) as each:
            customer, _ = register(each)
            at = 0
            while not done.wait(0.05):  # others test beside us
                at += 1
                token = rename(each, customer, f"name {at}")
                answer = from_redis(each, f"/customers/{customer}", token)
                statuses[answer.status_code] += 1
                stale += answer.json().get("name") != f"name {at}"

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        said = run_rayfold(own, "rebuild", "customer-profiles")
        assert said.startswith("customer-profiles: rebuilt in postgres, redis and memory"), said
        run_rayfold(own, "scale", "redis:customer-profiles", "2")
        assert len(parts(http, "redis")) == 2
        run_rayfold(own, "rebuild", "customer-profiles")
        run_rayfold(own, "scale", "redis", "1")
    finally:
        done.set()
        for thread in clients:
            thread.join()
    print(f"two rebuilds, scaled to two and back: {statuses.total()} queries with tokens to Redis")
    assert set(statuses) == {200}, statuses
    assert stale == 0
    assert len(parts(http, "redis")) == 1
    assert http.get("/operators/verify").json() == {"differences": []}


def test_an_emptied_redis_is_filled_by_itself_and_nobody_is_told_that_a_row_is_missing(
    http: httpx.Client, redis: RedisServer
) -> None:
    customer, token = register(http)
    assert from_redis(http, f"/customers/{customer}", token).status_code == 200
    redis.flush()
    seen: Counter[int] = Counter()
    deadline = time.monotonic() + TIMEOUT
    while seen[200] < 20 and time.monotonic() < deadline:
        answer = from_redis(http, f"/customers/{customer}", wait=0)
        seen[answer.status_code] += 1
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["type"] == "/problems/store-unavailable"
            assert answer.headers["retry-after"]
    assert seen[200] >= 20
    assert from_redis(http, f"/customers/{customer}", token).status_code == 200
    assert http.get("/operators/verify").json() == {"differences": []}


def test_a_redis_that_is_down_delays_nothing_else_and_recovers(
    own: Stack, http: httpx.Client, redis: RedisServer
) -> None:
    customer, token = register(http)
    assert from_redis(http, f"/customers/{customer}", token).status_code == 200
    redis.kill()
    [part] = eventually(lambda: [each for each in parts(http, "redis") if not each["ready"]])
    assert part["error"]
    away = from_redis(http, f"/customers/{customer}", wait=1)
    assert away.status_code == 503
    assert away.json()["type"] == "/problems/store-unavailable"
    token = rename(http, customer, "Grace")
    for store in ("memory", "postgres"):
        headers = {"Rayfold-Store": store, "Consistency-Token": token}
        assert http.get(f"/customers/{customer}", headers=headers).json()["name"] == "Grace"
    assert http.get("/health/ready").status_code == 200
    redis.start()
    eventually(lambda: all(each["ready"] for each in parts(http, "redis")))
    healed = from_redis(http, f"/customers/{customer}", token)
    assert (healed.status_code, healed.json()["name"]) == (200, "Grace")
    assert http.get("/operators/verify").json() == {"differences": []}


def test_a_killed_projector_comes_back_and_counts_nothing_twice(http: httpx.Client) -> None:
    customer, _ = register(http)
    [part] = parts(http, "redis")
    os.kill(part["pid"], signal.SIGKILL)
    token = rename(http, customer, "Barbara")
    found = from_redis(http, f"/customers/{customer}", token)
    assert (found.status_code, found.json()["name"]) == (200, "Barbara")
    assert http.get("/operators/verify").json() == {"differences": []}
