"""Clients of the domain in `tests.releases`: what they were promised, and what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

CLIENTS = 4
PATIENCE = 120.0

TIMEOUT = 60.0
"""Seconds for an answer; whoever never asks again has to wait."""

SLOW = 0.5
"""Seconds after which an answer is told of."""

PAUSE = 0.02
"""Seconds of a client between two requests."""


@dataclass
class Account:
    """What all clients saw."""

    deposits: Counter[str] = field(default_factory=Counter)
    """By account: those that were promised."""
    rings: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    """Requests without the answer that they should have had."""
    retried: Counter[str] = field(default_factory=Counter)
    """Connections that ended without an answer, and requests that were sent again."""
    slow: list[tuple[float, str, float]] = field(default_factory=list)
    """Of requests: seconds for the answer, which it was, when it came by the clock of the day."""

    @property
    def slowest(self) -> list[tuple[float, str, float]]:
        """Those that took longest."""
        return sorted(self.slow, reverse=True)[:8]

    def wait_for(self, answers: int) -> None:
        """Wait until there are so many more answers."""
        deadline, wanted = time.monotonic() + PATIENCE, self.answers.total() + answers
        while self.answers.total() < wanted:
            assert not self.failed, self.failed
            assert time.monotonic() < deadline, str(self)
            time.sleep(0.02)


class Client(threading.Thread):
    """Puts a cent into an account, reads its own write, and rings a till, again and again."""

    def __init__(
        self,
        number: int,
        urls: Sequence[str],
        token: str,
        account: Account,
        done: threading.Event,
        *,
        retries: bool,
    ) -> None:
        super().__init__(name=f"client-{number}")
        self._id = f"client-{number}"
        headers = {"Authorization": f"Bearer {token}"}
        # Who connects anew for each request meets whoever listens there.
        limits = httpx.Limits(max_keepalive_connections=0 if retries else 1)
        self._gateways = [
            httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, limits=limits)
            for url in urls
        ]
        self._account = account
        self._done = done
        self._retries = retries
        self._token = "0"

    def run(self) -> None:
        try:
            while not self._done.is_set():
                self._turn()
        except Exception as error:
            self._account.failed.append(repr(error))
            raise
        finally:
            for gateway in self._gateways:
                gateway.close()

    def _turn(self) -> None:
        account = self._account
        answer = self._ask("POST", f"/accounts/{self._id}/deposit", {"cents": 1}, 202)
        account.deposits[self._id] += 1
        self._token = answer.headers["consistency-token"]
        row = self._ask("GET", f"/accounts/{self._id}", None, 200).json()
        if row["cents"] != account.deposits[self._id]:
            account.failed.append(f"{row}, after {account.deposits[self._id]} deposits")
        self._ask("POST", f"/tills/{self._id}/ring", {}, 202)
        account.rings[self._id] += 1

    def _ask(
        self, method: str, path: str, body: dict[str, int] | None, expected: int
    ) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid4())} if method == "POST" else {}
        headers["Consistency-Token"] = self._token
        since = time.monotonic()
        while True:
            try:
                answer = self._gateways[0].request(method, path, json=body, headers=headers)
                break
            except httpx.TransportError as error:
                if not self._retries or time.monotonic() - since > PATIENCE:
                    raise
                self._account.retried[type(error).__name__] += 1
                self._gateways.append(self._gateways.pop(0))
                time.sleep(PAUSE)
        took = time.monotonic() - since
        if took > SLOW:
            self._account.slow.append((round(took, 1), f"{method} {path}", round(time.time(), 1)))
        if answer.status_code != expected:
            self._account.failed.append(f"{method} {path}: {answer.status_code} {answer.text}")
        else:
            self._account.answers[method] += 1
        time.sleep(PAUSE)  # a client's pause, not a wait for something
        return answer


@contextmanager
def accounts(
    urls: Sequence[str], token: str, *, retries: bool, before: Mapping[str, int] | None = None
) -> Iterator[Account]:
    """Clients in the network where this thread is; `before` is what their accounts have.

    Those that retry connect anew for each request; the others keep their connection, and never
    ask twice.
    """
    account, done = Account(deposits=Counter(before)), threading.Event()
    clients = [
        Client(
            number,
            [*urls[number % len(urls) :], *urls[: number % len(urls)]],
            token,
            account,
            done,
            retries=retries,
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
            client.join(PATIENCE)
