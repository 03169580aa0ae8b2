"""`kill -9` of everything that `up` starts, alone and in pairs: noticed, made good, nothing lost.

`make test` kills each once and some pairs. `RAYFOLD_CHAOS_KILLS=3` kills each three times, and all
pairs, and asserts how long that takes; the table that it prints is the one in the documentation.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psutil

from deploy.stack.descendants import descendants
from tests.stack import Stack

VICTIMS = {
    "GCS": "gcs_server",
    "raylet": "raylet/raylet",
    "dashboard agent": "raylet/no_agent.py",
    "runtime environment agent": "raylet/agent_when_asked.py",
    "Postgres": "bin/postgres -D",
    "event store": "eventstore.embedded",
    "write host": "ray::HostActor",
    "memory replica": "ray::ReplicaActor",
    "projector": "ray::ProjectorActor",
    "process actor": "ray::ProcessActor",
}
"""By what their command lines have."""

KILLS = int(os.environ.get("RAYFOLD_CHAOS_KILLS", "0"))
SOME_PAIRS = 4
WRITERS = 4
LINES = 20
PAUSE = 0.0 if KILLS else 0.05
"""Seconds of a writer between two commands; other tests run beside the short form."""

NOTICED = 3.0
GOOD = 20.0
PATIENCE = 90.0


class Kill(NamedTuple):
    """What came of one."""

    names: tuple[str, ...]
    noticed: float
    good: float
    receipts: int
    lost: int
    doubled: int


class Writer(threading.Thread):
    """Adds lines to orders, again with the same key until there is a receipt."""

    def __init__(self, url: str, done: threading.Event) -> None:
        super().__init__()
        self._url = url
        self._done = done
        self.acknowledged: dict[str, list[str]] = {}
        self.refused = 0
        self.token = ""

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE) as http:
            while not self._done.is_set():
                order = str(uuid4())
                self._command(http, "/orders", {"order_id": order, "customer_id": "ada"})
                skus = self.acknowledged[order] = []
                for number in range(LINES):
                    if self._done.is_set():
                        return
                    line = {"sku": f"sku-{number}", "quantity": 1, "unit_price_cents": 1}
                    self._command(http, f"/orders/{order}/lines", line)
                    skus.append(line["sku"])  # type: ignore[arg-type]

    def _command(self, http: httpx.Client, path: str, body: dict[str, object]) -> None:
        headers = {"Idempotency-Key": str(uuid4())}
        deadline = time.monotonic() + PATIENCE
        while (answer := http.post(path, json=body, headers=headers)).status_code != 202:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() < deadline, answer.text
            self.refused += 1
            time.sleep(0.05)  # a client's pause, not a wait for something
        self.token = answer.headers["consistency-token"]
        time.sleep(PAUSE)


def test_every_process_may_die(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    stack.start()
    chance = random.Random(7)
    alone = [(name,) for name in VICTIMS] * max(KILLS, 1)
    pairs = list(combinations(VICTIMS, 2))
    kills = []
    try:
        for names in [*alone, *(pairs if KILLS else chance.sample(pairs, SOME_PAIRS))]:
            kills.append(kill(stack, names))
            print(row(kills[-1]), flush=True)
        with httpx.Client(base_url=stack.url, timeout=120) as http:
            assert http.get("/operators/verify").json() == {"differences": []}
    finally:
        assert stack.stop() == 0
    assert stack.stdout.read() in (b"", None), "Ray prints to our standard output"
    assert descendants(stack.data.resolve()) == []
    assert [each for each in kills if each.lost or each.doubled] == []
    if KILLS:  # a machine that is shared may stall for seconds, so only when it is asked for
        assert [each for each in kills if each.noticed > NOTICED] == []
        assert [each for each in kills if each.good > GOOD] == []


def kill(stack: Stack, names: tuple[str, ...]) -> Kill:
    with httpx.Client(base_url=stack.url, timeout=PATIENCE) as http, writing(stack) as writers:
        before = whole(http)
        processes = [process_of(stack, VICTIMS[name]) for name in names]
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it went with the one before
                process.kill()
        since = time.monotonic()
        noticed = None
        while True:
            parts = status(http)
            passed = time.monotonic() - since
            assert passed < PATIENCE, parts
            if noticed is None and any(before.get(p["part"]) != life(p) for p in parts):
                noticed = passed
            if noticed is not None and all(p["ready"] for p in parts) and answers(http):
                good = time.monotonic() - since
                break
            time.sleep(0.05)
    lost, doubled = compare(stack, writers)
    receipts = sum(len(skus) + 1 for w in writers for skus in w.acknowledged.values())
    return Kill(names, noticed, good, receipts, lost, doubled)


@contextmanager
def writing(stack: Stack) -> Iterator[list[Writer]]:
    """Writers that write meanwhile, and had a receipt before."""
    done = threading.Event()
    writers = [Writer(stack.url, done) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not all(writer.token for writer in writers):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield writers
    finally:
        done.set()
        for writer in writers:
            writer.join(PATIENCE)


def process_of(stack: Stack, command: str) -> psutil.Process:
    """The youngest process of the stack with this in its command line."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = []
        for process in psutil.Process(stack.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if command in " ".join(process.cmdline()):
                    found.append(process)
        if found:
            return max(found, key=lambda each: each.create_time())
        assert time.monotonic() < deadline, command
        time.sleep(0.1)


def whole(http: httpx.Client) -> dict[str, tuple[Any, ...]]:
    """The life of every part, once all of them are ready."""
    deadline = time.monotonic() + PATIENCE
    parts = status(http)
    while not all(part["ready"] for part in parts):
        assert time.monotonic() < deadline, parts
        time.sleep(0.05)
        parts = status(http)
    return {part["part"]: life(part) for part in parts}


def status(http: httpx.Client) -> list[dict[str, Any]]:
    answer = http.get("/operators/status")
    assert answer.status_code == 200, answer.text
    return answer.json()["parts"]


def life(part: dict[str, Any]) -> tuple[Any, ...]:
    """What is another when a part died and came back."""
    return part["ready"], part.get("pid"), part.get("restarts")


def answers(http: httpx.Client) -> bool:
    """Whether a command has its receipt, and both stores show it."""
    order = str(uuid4())
    made = http.post("/orders", json={"order_id": order, "customer_id": "ada"})
    if made.status_code != 202:
        return False
    for store in ("memory", "postgres"):
        headers = {"Consistency-Token": made.headers["consistency-token"], "Rayfold-Store": store}
        if http.get(f"/orders/{order}", headers=headers).status_code != 200:
            return False
    return True


def compare(stack: Stack, writers: list[Writer]) -> tuple[int, int]:
    """How many receipts' lines are not there, and how many are there twice."""
    lost = doubled = 0
    with httpx.Client(base_url=stack.url, timeout=PATIENCE) as http:
        for writer in writers:
            for order, skus in writer.acknowledged.items():
                deadline = time.monotonic() + PATIENCE
                headers = {"Consistency-Token": writer.token}
                url = f"/orders/{order}"
                while (found := http.get(url, headers=headers)).status_code != 200:
                    if found.status_code == 404 or time.monotonic() > deadline:
                        break
                    time.sleep(0.05)
                lines = found.json().get("lines", [])
                quantities = {line["sku"]: line["quantity"] for line in lines}
                lost += sum(sku not in quantities for sku in skus)
                lost += found.status_code == 404
                doubled += sum(quantity > 1 for quantity in quantities.values())
    return lost, doubled


def row(each: Kill) -> str:
    """As the documentation's table has it."""
    names, (noticed, good) = " and ".join(each.names), (each.noticed, each.good)
    return (
        f"| {names} | {noticed:.1f} s | {good:.1f} s | {each.receipts} | {each.lost} |"
        f" {each.doubled} |"
    )
