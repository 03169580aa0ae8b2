"""The read and write sides as the gateway sees them, reduced to what HTTP needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from actors.envelope import Envelope
from actors.errors import NoSuchProcess
from api.console.sessions import SessionsLost
from projections.errors import NoSuchPublication
from rayfold import Answer, Query, Receipt, ViewDefinition

ORDER_ID = "0b9c5f0e-3c5e-4a55-9c61-6c2b1f1f7f00"
ROW = b'{"order_id":"%b","lines":[],"revision":3}' % ORDER_ID.encode()


class FakeCommands:
    """Keeps the envelopes; answers with a receipt, or raises `error`."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.error: BaseException | None = None

    async def send(self, envelope: Envelope) -> Receipt:
        self.sent.append(envelope)
        if self.error is not None:
            raise self.error
        return Receipt(
            command_id=UUID(envelope.command_id),
            stream=envelope.stream,
            revision=7,
            position=99,
        )


class FakeQueries:
    """Keeps what was asked; answers with `answer`, or raises `error`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Query, int | None, str | None]] = []
        self.answer = Answer(ROW, 3, 42)
        self.error: Exception | None = None
        self.behind: list[str] = []
        self.followed: list[int | None] = []
        self.waited: list[float] = []
        self.timeouts: list[float] = []

    async def ask(
        self,
        query: Query,
        *,
        at_least: int | None = None,
        timeout: float = 2.0,
        store: str | None = None,
        tenant: str = "",
    ) -> Answer:
        self.asked.append((query, at_least, store))
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error
        return self.answer

    async def reached(self, views: Sequence[str], position: int, timeout: float) -> list[str]:
        self.waited.append(timeout)
        return [view for view in views if view in self.behind]

    async def live(
        self, query: Query, *, after: int | None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        self.followed.append(after)
        seen = after
        while True:
            position, body = self.answer.position, self.answer.body
            if body is not None and position != seen:
                seen = position
                yield position, body
            await asyncio.sleep(0.01)


class FollowedQueries(FakeQueries):
    """Counts who follows a row."""

    following = 0

    async def live(
        self, query: Query, *, after: int | None, tenant: str = ""
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        self.following += 1
        try:
            yield 42, ROW
            await asyncio.Event().wait()
        finally:
            self.following -= 1


class FakeHistories:
    """Answers with `past`; keeps the moments that it was asked for."""

    def __init__(self) -> None:
        self.past: list[dict[str, Any]] = [{"type": "OrderCreated", "revision": 0, "position": 17}]
        self.moments: list[int | datetime] = []
        self.row: bytes | None = ROW

    async def events(
        self,
        aggregate: Any,
        aggregate_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        begin = 0 if after is None else after + 1
        for each in islice(self.past, begin, None if limit is None else begin + limit):
            yield each

    async def last(self, aggregate: Any, aggregate_id: str) -> tuple[int, int]:
        return self.past[-1]["revision"], self.past[-1]["position"]

    async def as_of(
        self, view: ViewDefinition, key: str, stream: str, at: int | datetime
    ) -> tuple[bytes, int] | None:
        assert stream.endswith(key)
        self.moments.append(at)
        return (self.row, 17) if self.row else None


class FakeOperations:
    """Parts, and what was asked to be scaled."""

    def __init__(self) -> None:
        self.known: list[dict[str, Any]] = [
            {
                "part": "memory:all#0",
                "kind": "memory",
                "node": "one",
                "ready": True,
                "position": 5,
                "lag": 0,
            }
        ]
        self.scaled: list[tuple[str, int]] = []
        self.causes: dict[str, Any] | None = None
        self.traced: tuple[list[str], int] = [], 0
        self.error: Exception | None = None
        self.accepted = False
        self.known_rebuilds: list[dict[str, Any]] = []
        self.known_parked: list[dict[str, Any]] = []
        self.parked_asked: tuple[str, str, list[Any], int] = "", "", [], 0

    async def parts(self) -> list[dict[str, Any]]:
        return self.known

    async def scale(self, target: str, count: int) -> None:
        if self.error is not None:
            raise self.error
        self.scaled.append((target, count))

    async def verify(self) -> list[dict[str, Any]]:
        return []

    async def moves(self) -> list[dict[str, Any]]:
        return [{"target": "memory", "from": 1, "to": 2, "reason": "an operator", "at": "now"}]

    async def rebuild(self, view: str, *, accept_parked: bool) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.accepted = accept_parked
        return {"view": view, "state": "waiting"}

    async def rebuilds(self) -> list[dict[str, Any]]:
        return self.known_rebuilds

    async def parked(
        self, view: str = "", key: str = "", after: Sequence[Any] = (), limit: int = 0
    ) -> list[dict[str, Any]]:
        self.parked_asked = view, key, list(after), limit
        return self.known_parked[:limit] if limit else self.known_parked

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        return None

    async def causality(self, asked: Sequence[str], scan: int) -> dict[str, Any] | None:
        self.traced = list(asked), scan
        return self.causes

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        return []

    async def delete(self, stream: str, *, tombstone: bool) -> list[str]:
        if self.error is not None:
            raise self.error
        return ["sales-by-day"]

    async def forget(self, subjects: Sequence[str]) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        at = "2026-01-01T00:00:00Z"
        forgotten = [{"subject": "ada", "forgotten_at": at, "settled": False}]
        return {"forgotten": forgotten, "unknown": list(subjects), "views": ["contacts"]}

    async def forgetting(self) -> dict[str, Any]:
        return {"left": [], "error": ""}

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return [{"store": "postgres", "view": view, "key": key, "parked": False}]


class FakeProcesses:
    """None is open."""

    async def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        return {"processes": [], "total": 0}

    async def schedules(self, limit: int) -> dict[str, Any]:
        return {"schedules": [], "commands": [], "total": 0}

    async def show(self, name: str, key: str) -> dict[str, Any]:
        raise NoSuchProcess(name, key)

    async def retry(self, name: str, key: str) -> None:
        raise NoSuchProcess(name, key)

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        raise NoSuchProcess(name, key)


class FakePublications:
    """There are none."""

    async def list(
        self, publication: str = "", after: Sequence[Any] = (), limit: int = 0
    ) -> dict[str, Any]:
        return {"publications": []}

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        raise NoSuchPublication(f"no publication is named {name!r}")


class FakeOutcomes:
    """Writers that remember nothing."""

    async def outcome(self, command_id: str) -> None:
        return


class FakeBrowser:
    """Over a log in which nothing is."""

    async def page(self, **_: Any) -> dict[str, Any]:
        return {"events": [], "next": None, "looked": 0}

    async def after(self, place: int | None, **asked: Any) -> dict[str, Any]:
        return {"events": [], "next": place, **asked}

    async def event(self, stream: str, revision: int) -> dict[str, Any] | None:
        return None

    async def through_time(self, stream: str, revision: int | None = None) -> dict[str, Any] | None:
        return None


class FakeAudit:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.asked_for: list[tuple[str, str, bytes]] = []
        self.failures: list[tuple[str, int]] = []

    async def asked(self, principal: str, action: str, arguments: bytes) -> str:
        self.asked_for.append((principal, action, arguments))
        return f"note-{len(self.asked_for)}"

    async def failed(self, note: str, status: int, reason: str) -> None:
        self.failures.append((note, status))

    async def last(self, limit: int) -> list[dict[str, Any]]:
        return [{"limit": limit}]


class FakeSessions:
    """Keeps sessions for as many gateways as are given it."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise SessionsLost("it is away")

    async def keep(self, name: bytes, sealed: bytes, seconds: float) -> None:
        self._check()
        self.kept[name] = sealed

    async def find(self, name: bytes) -> bytes | None:
        self._check()
        return self.kept.get(name)

    async def drop(self, name: bytes) -> None:
        self._check()
        self.kept.pop(name, None)
