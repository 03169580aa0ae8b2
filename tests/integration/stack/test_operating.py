"""Scaling and rebuilding while clients read and write: nobody notices."""

from __future__ import annotations

import threading
from collections import Counter
from uuid import uuid4

import httpx

from tests.integration.stack.orders import add, create
from tests.stack import Stack, run_rayfold


def test_no_query_fails_while_views_are_rebuilt_and_scaled(stack: Stack) -> None:
    done = threading.Event()
    statuses: Counter[int] = Counter()
    lost = stale = 0

    def client() -> None:
        nonlocal lost, stale
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            order, lines = create(http), 0
            while not done.wait(0.05):  # others test beside us
                # Lines of one article are merged: no two may have the same.
                added = add(http, order, f"sku-{uuid4().hex}")
                lines += 1
                lost += added.json()["revision"] != lines
                token = added.headers["consistency-token"]
                for store in ("memory", "postgres"):
                    headers = {
                        "Consistency-Token": token,
                        "Rayfold-Store": store,
                        "Prefer": "wait=30",
                    }
                    answer = http.get(f"/orders/{order}", headers=headers)
                    statuses[answer.status_code] += 1
                    stale += len(answer.json().get("lines", ())) != lines

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        said = run_rayfold(stack, "rebuild", "order-details")
        assert said.startswith("order-details: rebuilt in postgres and memory")
        run_rayfold(stack, "scale", "memory:order-details", "2")
        run_rayfold(stack, "scale", "postgres:order-details", "2")
        run_rayfold(stack, "rebuild", "order-details")
        run_rayfold(stack, "scale", "memory", "1")
        run_rayfold(stack, "scale", "postgres", "1")
    finally:
        done.set()
        for each in clients:
            each.join()
    assert set(statuses) == {200}
    assert (lost, stale) == (0, 0)
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        status = http.get("/operators/status").json()
        assert [move["target"] for move in status["scaling"][:4]] == [
            "postgres",
            "memory",
            "postgres:order-details",
            "memory:order-details",
        ]
        assert {each["state"] for each in status["rebuilds"]} == {"done"}
        kinds = Counter(part["kind"] for part in status["parts"])
        assert (kinds["memory"], kinds["postgres"]) == (1, 1)
        assert http.get("/operators/verify").json() == {"differences": []}
    assert run_rayfold(stack, "parked", "list") == "0 parked\n"


def test_what_cannot_be_rebuilt_or_replayed_is_one_line(stack: Stack) -> None:
    assert "no view is named 'nope'" in run_rayfold(stack, "rebuild", "nope", code=2)
    assert "nothing is parked" in run_rayfold(stack, "parked", "replay", "order-details", code=2)
    told = run_rayfold(stack, "publications", "replay", "order-news", code=2)
    assert "order-news goes nowhere: the settings have no target for it" in told
    assert "nothing that can be explained is named 'nope'" in run_rayfold(
        stack, "explain", "nope", code=2
    )
    assert "nothing is parked" in run_rayfold(stack, "parked", "show", "order-details", "x", code=2)
