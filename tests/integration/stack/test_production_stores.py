"""The whole stack with a store whose leader changes, and a pooler that keeps no session."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.contract.eventstore.cluster_process import ClusterProcess
from tests.integration.projections.pooler import pooled
from tests.integration.stack.orders import create, read
from tests.postgres_server import postgres_server
from tests.stack import Stack, run_rayfold

CLIENTS = 8
CHANGES = int(os.environ.get("RAYFOLD_CLUSTER_ROUNDS", "3"))
"""Of the leader, every other one because it is gone."""


@pytest.fixture
def pooler() -> Iterator[str]:
    """A DSN: a pooler in transaction mode, in a thread, in front of a Postgres of its own."""
    with postgres_server() as dsn:
        loop, started = asyncio.new_event_loop(), threading.Event()
        found: list[str] = []
        ending = asyncio.Event()

        async def serve() -> None:
            async with pooled(dsn, sessions=6) as running:
                found.append(running.dsn)
                started.set()
                await ending.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        assert started.wait(60)
        yield found[0]
        loop.call_soon_threadsafe(ending.set)
        thread.join(60)


def test_no_write_is_lost_or_doubled_over_changes_of_the_leader(
    tmp_path: Path, pooler: str
) -> None:
    cluster = ClusterProcess(tmp_path / "store")
    uri = f"{cluster.uri}&NodePreference=follower"
    stack = Stack(tmp_path / "data", "--eventstore", uri, "--postgres", pooler)
    try:
        stack.start()
        _load_over_changes(cluster, stack)
        run_rayfold(stack, "verify")
        assert stack.stop() == 0
    finally:
        stack.kill()
        cluster.stop()
    said = (tmp_path / "data.log").read_text()
    assert "a pooler answers for Postgres" in said


def _load_over_changes(cluster: ClusterProcess, stack: Stack) -> None:
    ending = threading.Event()
    answered: list[float] = [time.monotonic()]
    statuses: list[int] = []

    def add_until_the_end() -> tuple[str, int, str]:
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            order, receipts, token = create(http), 0, ""
            while not ending.wait(0.02):  # others test beside us
                key = str(uuid4())
                while True:
                    line = {"sku": "tea", "quantity": 1, "unit_price_cents": 1}
                    headers = {"Idempotency-Key": key}
                    answer = http.post(f"/orders/{order}/lines", json=line, headers=headers)
                    statuses.append(answer.status_code)
                    if answer.status_code == 202:
                        break
                    assert answer.status_code == 503, answer.text
                    time.sleep(0.05)
                answered.append(time.monotonic())
                receipts, token = receipts + 1, answer.headers["Consistency-Token"]
            return order, receipts, token

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(add_until_the_end) for _ in range(CLIENTS)]
        try:
            for turn in range(CHANGES):
                _wait_for_more(answered)
                if turn % 2:
                    cluster.do(f"away {turn % 3}")
                cluster.do("elect")
                time.sleep(1.0)  # an election takes a while
                cluster.do(f"lead {(turn + 1) % 3}")
                _wait_for_more(answered)
                if turn % 2:
                    cluster.do(f"back {turn % 3}")
        finally:
            ending.set()
        done = [client.result(60) for client in clients]
    answered.sort()
    gap = max(b - a for a, b in pairwise(answered))
    print(
        f"{CHANGES} leaders: {len(answered)} receipts, {statuses.count(503)} answers of 503,"
        f" the longest time without a receipt {gap:.2f} s"
    )
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        for order, receipts, token in done:
            for store in ("memory", "postgres"):
                [line] = read(http, order, token, store)["lines"]
                assert line["quantity"] == receipts


def _wait_for_more(answered: list[float]) -> None:
    """Wait until each client has had some more receipts."""
    wanted, deadline = len(answered) + 10 * CLIENTS, time.monotonic() + 60
    while len(answered) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)
