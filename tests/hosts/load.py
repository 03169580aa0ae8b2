"""Clients outside that ask gateway after gateway until they have their answer; their account."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
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

PAUSE = 0.1
"""Seconds of a client between two requests: the faults are what takes time, and others test too."""


@dataclass(frozen=True)
class Receipt:
    """What a client was promised."""

    command: str
    stream: str
    revision: int


class Spell(NamedTuple):
    """The worst of a stretch of time, in seconds: what clients waited, all attempts included."""

    silence: float
    """For which none of them had a successful answer."""
    write: float
    read: float
    receipts: int


class Account:
    """What all clients saw."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.receipts: list[Receipt] = []
        self.stale: list[str] = []
        """Answers with a token that lacked what the token stands for."""
        self.unexpected: list[str] = []
        self.answers: Counter[str] = Counter()
        """Successful ones, by kind of request."""
        self.refused: Counter[str] = Counter()
        """Attempts that came to nothing and were made again, by reason."""
        self.lock = threading.Lock()
        self._open: dict[str, tuple[str, float]] = {}
        self._succeeded = time.monotonic()
        self._begin()

    def ask(self, client: str, what: str) -> None:
        """Take note that a client makes a request."""
        with self.lock:
            self._open[client] = what, time.monotonic()

    def success(self, client: str) -> None:
        """Take note of a successful answer to its request."""
        with self.lock:
            what, since = self._open.pop(client)
            now = time.monotonic()
            self._note(what, now - since)
            self._silence = max(self._silence, now - self._succeeded)
            self._succeeded = now
            self.answers[what] += 1

    def spell(self) -> Spell:
        """Return the worst since the last call, requests that wait still included."""
        with self.lock:
            now = time.monotonic()
            for what, since in self._open.values():
                self._note(what, now - since)
            silence = max(self._silence, now - self._succeeded)
            receipts = len(self.receipts) - self._receipts
            spell = Spell(silence, self._waited["write"], self._waited["read"], receipts)
            self._begin()
        return spell

    def wait_for(self, answers: int) -> None:
        """Wait until there are so many more successful answers."""
        deadline = time.monotonic() + PATIENCE
        wanted = self.answers.total() + answers
        while self.answers.total() < wanted:
            assert not self.unexpected, self.unexpected
            assert time.monotonic() < deadline, str(self)
            time.sleep(0.05)

    def __str__(self) -> str:
        """Return the counts in one line."""
        return (
            f"{len(self.receipts)} receipts, answers {dict(self.answers)}, refused"
            f" {dict(self.refused)}, stale {self.stale}, unexpected {self.unexpected}"
        )

    def _begin(self) -> None:
        self._silence = 0.0
        self._waited = {"write": 0.0, "read": 0.0}
        self._receipts = len(self.receipts)

    def _note(self, what: str, seconds: float) -> None:
        kind = what.partition(" ")[0]
        self._waited[kind] = max(self._waited[kind], seconds)


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
        self._account.ask(self.name, what)
        while True:
            gateway = self._gateways[0]
            try:
                answer = gateway.request(method, path, **request)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if answer.status_code == (202 if method == "POST" else 200):
                    self._account.success(self.name)
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
