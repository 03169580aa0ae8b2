"""SIGKILL in the middle of writes: what was acknowledged is complete, in both stores."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import psutil

from tests.integration.stack.orders import add, create
from tests.stack import Stack

WRITERS = 8


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    stack.start()
    acknowledged: dict[str, list[str]] = {}
    enough = threading.Event()

    def write() -> None:
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            try:
                while True:
                    order = create(http)
                    skus = acknowledged[order] = []
                    for number in range(5):
                        sku = f"sku-{number}"
                        assert add(http, order, sku).status_code == 202
                        skus.append(sku)
                    if len(acknowledged) > 100:
                        enough.set()
            except httpx.HTTPError:
                return  # the crash

    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    stack.kill()
    for writer in writers:
        writer.join(60)

    stack.start()
    try:
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            for store in ("memory", "postgres"):
                for order, skus in acknowledged.items():
                    answer = http.get(f"/orders/{order}", headers={"Rayfold-Store": store})
                    assert answer.status_code == 200, (store, answer.text)
                    found = [line["sku"] for line in answer.json()["lines"]]
                    # The last line may have been written without its receipt arriving.
                    assert found[: len(skus)] == skus
                    assert len(found) <= len(skus) + 1
            assert http.get("/operators/verify", timeout=120).json() == {"differences": []}
    finally:
        assert stack.stop() == 0


def test_a_store_that_died_comes_back_and_nobody_restarts_anything(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        order = create(http)
        [store] = [
            child
            for child in psutil.Process(stack.pid).children()
            if "eventstore.embedded" in child.cmdline()
        ]
        store.kill()
        until = time.monotonic() + 60
        while True:
            answer = add(http, order)
            if answer.status_code == 202:
                break
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() < until, answer.text
        token = answer.headers["consistency-token"]
        for name in ("memory", "postgres"):
            headers = {"Consistency-Token": token, "Rayfold-Store": name}
            while (found := http.get(f"/orders/{order}", headers=headers)).status_code != 200:
                assert found.status_code in (202, 503), found.text
                assert time.monotonic() < until, found.text
            assert found.json()["lines"][0]["sku"] == "tea"
