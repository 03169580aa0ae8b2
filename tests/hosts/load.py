"""Clients outside that ask gateway after gateway until they have their answer; their account."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

CLIENTS = 4
LINES = 20
"""Of an order, before the client begins another one."""

ITEM = "tea"
"""A stock item that all of them receive: an aggregate with an actor of its own."""

TRY_TIMEOUT = httpx.Timeout(5.0, connect=1.0)
"""After which a client asks the other gateway."""

PATIENCE = 120.0
"""Seconds after which a client gives up, and the test fails."""

PAUSE = 0.02
"""Seconds of a client between two requests."""


@dataclass(frozen=True)
class Receipt:
    """What a client was promised."""

    command: str
    stream: str
    revision: int


@dataclass
class Wait:
    """How long a client waited for an answer, over all attempts."""

    seconds: float
    what: str
    at: float


@dataclass
class Account:
    """What all clients saw."""

    receipts: list[Receipt] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    """Successful ones, by kind of request."""
    refused: Counter[str] = field(default_factory=Counter)
    """Attempts that came to nothing and were made again, by reason."""
    waits: list[Wait] = field(default_factory=list)
    """Those of more than a second."""
    succeeded: float = field(default_factory=time.monotonic)
    """When there was a successful answer last."""
    silence: float = 0.0
    """Seconds for which no client had a successful answer, at most."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def success(self, what: str, since: float) -> None:
        """Take note of a successful answer to a request that was first made then."""
        now = time.monotonic()
        with self.lock:
            self.silence = max(self.silence, now - self.succeeded)
            self.succeeded = now
            self.answers[what] += 1
            if now - since > 1.0:
                self.waits.append(Wait(now - since, what, now))

    def wait_for(self, answers: int) -> None:
        """Wait until there are so many more successful answers."""
        deadline = time.monotonic() + PATIENCE
        wanted = self.answers.total() + answers
        while self.answers.total() < wanted:
            assert not self.unexpected, self.unexpected
            assert time.monotonic() < deadline, str(self)
            time.sleep(0.05)

    def longest(self, what: str = "") -> float:
        """Return the seconds that one request took at most, all attempts included."""
        return max((wait.seconds for wait in self.waits if what in wait.what), default=0.0)

    def __str__(self) -> str:
        """Return all of it in a few lines."""
        return (
            f"{len(self.receipts)} receipts, answers {dict(self.answers)}, refused"
            f" {dict(self.refused)}, stale {self.stale}, unexpected {self.unexpected};"
            f" longest silence {self.silence:.1f} s, longest write {self.longest('write'):.1f} s,"
            f" longest read {self.longest('read'):.1f} s"
        )


class Client(threading.Thread):
    """Adds lines to orders and stock to an item, and reads what it has written."""

    def __init__(
        self, number: int, urls: Sequence[str], token: str, account: Account, done: threading.Event
    ) -> None:
        super().__init__(name=f"client-{number}")
        headers = {"Authorization": f"Bearer {token}"}
        self._gateways = [
            httpx.Client(base_url=url, headers=headers, timeout=TRY_TIMEOUT)
            for url in dict.fromkeys(urls)
        ]
        self._chance = random.Random(number)
        self._account = account
        self._done = done
        self._token = "0"

    def run(self) -> None:
        try:
            while not self._done.is_set():
                self._order()
        except Exception as error:
            self._account.unexpected.append(repr(error))
            raise
        finally:
            for gateway in self._gateways:
                gateway.close()

    def _order(self) -> None:
        order = str(uuid4())
        self._write("/orders", {"order_id": order, "customer_id": "ada"})
        for number in range(LINES):
            if self._done.is_set():
                return
            line = {"sku": f"sku-{number}", "quantity": 1, "unit_price_cents": 1}
            revision = self._write(f"/orders/{order}/lines", line)
            self._read(order, revision)
            if number % 5 == 0:
                self._write(f"/stock/{ITEM}/receive", {"quantity": 1})

    def _write(self, path: str, body: dict[str, Any]) -> int:
        key = str(uuid4())
        answer = self._ask("write", "POST", path, json=body, headers={"Idempotency-Key": key})
        receipt = answer.json()
        with self._account.lock:
            self._account.receipts.append(Receipt(key, receipt["stream"], receipt["revision"]))
        self._token = answer.headers["consistency-token"]
        return int(receipt["revision"])

    def _read(self, order: str, revision: int) -> None:
        headers = {"Consistency-Token": self._token}
        store = self._chance.choice(("any store", "memory", "postgres"))
        if store != "any store":
            headers["Rayfold-Store"] = store
        answer = self._ask(f"read {store}", "GET", f"/orders/{order}", headers=headers)
        row = answer.json() if answer.status_code == 200 else {}
        if row.get("revision", -1) < revision or len(row["lines"]) < revision:
            self._account.stale.append(f"{store} {order} {revision}: {answer.status_code} {row}")
        self._token = answer.headers.get("consistency-token", self._token)

    def _ask(self, what: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask one gateway after the other, with the same request, until there is an answer."""
        since = time.monotonic()
        while True:
            gateway = self._gateways[0]
            try:
                answer = gateway.request(method, path, **request)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if answer.status_code == (202 if method == "POST" else 200):
                    self._account.success(what, since)
                    time.sleep(PAUSE)  # a client's pause, not a wait for something
                    return answer
                if method == "GET" and answer.status_code == 404:
                    return answer
                reason = f"{answer.status_code} {answer.json().get('type', 'processing')}"
                if answer.status_code not in (202, 503):
                    raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
            with self._account.lock:
                self._account.refused[f"{what}: {reason}"] += 1
            if time.monotonic() - since > PATIENCE:
                raise AssertionError(f"{method} {path}: no answer in {PATIENCE} s, but {reason}")
            self._gateways.append(self._gateways.pop(0))
            time.sleep(PAUSE * 5)


@contextmanager
def load(urls: Sequence[str], token: str) -> Iterator[Account]:
    """Clients that write and read meanwhile; in the end each has all its answers.

    They are in the network where this thread is, and begin with different gateways.
    """
    account, done = Account(), threading.Event()
    clients = [
        Client(
            number, urls[number % len(urls) :] + urls[: number % len(urls)], token, account, done
        )
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield account
    finally:
        done.set()
        for client in clients:
            client.join(PATIENCE + 30)
