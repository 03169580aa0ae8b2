"""Fulfilments under `kill -9` of process actors, hosts and the store: each ends, stock adds up.

`make test` kills each once. `RAYFOLD_CHAOS_FULFILMENTS=40` kills so many times within a minute, or
however long that takes.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from eventstore.kurrentdb.log import EventLog
from eventstore.records import Metadata
from tests.chaos.test_every_process_may_die import process_of
from tests.stack import Stack, run_rayfold

VICTIMS = {
    "process actor": "ray::ProcessActor",
    "write host": "ray::HostActor",
    "event store": "eventstore.embedded",
}

KILLS = int(os.environ.get("RAYFOLD_CHAOS_FULFILMENTS", str(len(VICTIMS))))
PAUSE = 1.5
"""Seconds between two kills."""

SHOPPERS = 3
PAYMENT_TIMEOUT = 3
SKUS = [f"sku-{number}" for number in range(8)]
STOCK = 60
"""Pieces of each: so few that some orders find none."""

PATIENCE = 90.0


@dataclass
class Shopper(threading.Thread):
    """Places orders to be fulfilled; pays some, cancels some, forgets the others."""

    url: str
    done: threading.Event
    seed: int
    orders: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        chance = random.Random(self.seed)
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as http:
            while not self.done.wait(0.05):  # others test beside us
                order = str(uuid4())
                lines = {sku: chance.randint(1, 3) for sku in chance.sample(SKUS, 2)}
                self._command(http, "/orders", {"order_id": order, "customer_id": "ada"})
                for sku, quantity in lines.items():
                    line = {"sku": sku, "quantity": quantity, "unit_price_cents": 1}
                    self._command(http, f"/orders/{order}/lines", line)
                self.orders[order] = lines
                self._command(http, f"/orders/{order}/place", {"fulfil": True})
                fate = chance.random()
                if fate < 0.6:
                    self._command(http, f"/orders/{order}/pay", None)
                elif fate < 0.75:
                    self._command(http, f"/orders/{order}/cancel", None)

    def _command(self, http: httpx.Client, path: str, body: Any) -> None:
        headers = {"Idempotency-Key": str(uuid4())}
        deadline = time.monotonic() + PATIENCE
        while (answer := http.post(path, json=body, headers=headers)).status_code == 503:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)  # a client's pause, not a wait for something
        # What the process did meanwhile is no mistake: an order that lacked stock is cancelled.
        assert answer.status_code in (202, 409), answer.text


def test_every_fulfilment_is_shipped_or_compensated(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", FULFILMENT_PAYMENT_TIMEOUT=str(PAYMENT_TIMEOUT))
    stack.start()
    try:
        with httpx.Client(base_url=stack.url, timeout=PATIENCE) as http:
            for sku in SKUS:
                stocked = http.post(f"/stock/{sku}/receive", json={"quantity": STOCK})
                assert stocked.status_code == 202
            run_rayfold(stack, "scale", "process:fulfilment", "2")
            done = threading.Event()
            shoppers = [Shopper(stack.url, done, seed) for seed in range(SHOPPERS)]
            for shopper in shoppers:
                shopper.start()
            began = time.monotonic()
            kills = kill_one_after_the_other(stack)
            done.set()
            for shopper in shoppers:
                shopper.join(PATIENCE)
            seconds = time.monotonic() - began
            orders = {order: lines for each in shoppers for order, lines in each.orders.items()}
            stages = until_all_ended(http, list(orders))
            print(
                f"\n{len(orders)} fulfilments in {seconds:.0f} s: {dict(Counter(stages.values()))};"
                f" killed: {dict(kills)}"
            )
            for sku in SKUS:
                sold = sum(
                    lines.get(sku, 0)
                    for order, lines in orders.items()
                    if stages[order] == "shipped"
                )
                until_stock_is(http, sku, {"on_hand": STOCK, "reserved": sold})
            assert asyncio.run(doubled(stack)) == {}
            assert http.get("/operators/verify").json() == {"differences": []}
            assert http.get("/processes?parked=true").json()["total"] == 0
    finally:
        assert stack.stop() == 0


def kill_one_after_the_other(stack: Stack) -> Counter[str]:
    killed: Counter[str] = Counter()
    for name in cycle(VICTIMS):
        if killed.total() == KILLS:
            return killed
        time.sleep(PAUSE)  # the load goes on meanwhile
        with suppress(psutil.NoSuchProcess):
            process_of(stack, VICTIMS[name]).kill()
            killed[name] += 1
    raise AssertionError("unreachable")


def until_all_ended(http: httpx.Client, orders: list[str]) -> dict[str, str]:
    """The stage of each once it has ended."""
    deadline = time.monotonic() + PATIENCE + len(orders) / 20
    ended: dict[str, str] = {}
    while waiting := [order for order in orders if order not in ended]:
        for order in waiting:
            answer = http.get(f"/processes/fulfilment/{order}")
            if answer.status_code == 200 and answer.json()["status"] == "ended":
                state = answer.json()["state"]
                ended[order] = "shipped" if state["shipped"] else "cancelled"
        assert time.monotonic() < deadline, f"{len(waiting)} of {len(orders)} have not ended"
        time.sleep(0.1)
    return ended


def until_stock_is(http: httpx.Client, sku: str, wanted: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = http.get(f"/stock/{sku}").json()
        if {name: found[name] for name in wanted} == wanted:
            return
        assert time.monotonic() < deadline, (sku, found, wanted)
        time.sleep(0.1)


async def doubled(stack: Stack) -> dict[str, int]:
    """Reservations, releases and shipments that an order has more than one of, by what they are."""
    process = process_of(stack, VICTIMS["event store"])
    [port] = {each.laddr.port for each in process.net_connections() if each.status == "LISTEN"}
    log = EventLog(f"kdb://127.0.0.1:{port}?Tls=false")
    counted: Counter[str] = Counter()
    commands: Counter[str] = Counter()
    async for raw in log.read_all(["stock-", "order-"]):
        metadata = Metadata(raw.metadata)
        if metadata.get("principal", "").startswith("process:"):
            counted[f"{raw.stream} {raw.event_type} {metadata['$correlationId']}"] += 1
            commands[f"{raw.event_type} {metadata['commandId']}"] += 1
    await log.close()
    return {what: n for what, n in (counted | commands).items() if n > 1}
