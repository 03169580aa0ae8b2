"""A small domain whose events are published, a receiver that can fail, a publisher over both."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.publications.errors import NotDelivered
from projections.publications.outgoing import Outgoing
from projections.publications.publisher import Publisher
from projections.publications.settings import Patience
from rayfold import (
    Aggregate,
    Command,
    Complete,
    Event,
    IntegrationEvent,
    Message,
    ProcessManager,
    Publication,
    Publish,
    Registry,
    Step,
    on,
    starts,
)

DEADLINE = 60.0


class Sign(Command, name="sign"):
    paper: str
    text: str


class Signed(Event, name="Signed"):
    paper: str
    text: str


class Paper(Message):
    pass


class Papers(Aggregate[Paper, Sign, Signed], category="paper", id_field="paper", initial=Paper()):
    @staticmethod
    def decide(state: Paper, command: Sign) -> list[Signed]:
        return [Signed(paper=command.paper, text=command.text)]

    @staticmethod
    def evolve(state: Paper, event: Signed) -> Paper:
        return state


class Signature(IntegrationEvent, name="papers.signature"):
    name: str
    text: str


class Seen(IntegrationEvent, name="papers.seen"):
    name: str


BROKEN: set[str] = set()
"""Texts on which the handler breaks, as long as they are in here."""


class News(Publication[Signature | Seen], name="news", key="name"):
    @staticmethod
    @on(Signed)
    def signed(event: Signed) -> Iterator[Signature]:
        if event.text in BROKEN:
            raise RuntimeError(f"breaks on {event.text}")
        yield Signature(name=event.paper, text=event.text)


class AllNews(Publication[Signature], name="all-news", key="name", from_beginning=True):
    @staticmethod
    @on(Signed)
    def signed(event: Signed) -> Signature:
        return Signature(name=event.paper, text=event.text)


class Watch(ProcessManager[Paper, Signed], name="watch", key="paper", initial=Paper()):
    @staticmethod
    def evolve(state: Paper, happened: Any) -> Paper:
        return state

    @staticmethod
    @starts(Signed)
    def signed(state: Paper, event: Signed) -> Iterator[Step]:
        yield Publish(Seen(name=event.paper))
        yield Complete()


REGISTRY = Registry([sys.modules[__name__]])

HASTY = Patience(first_pause=0.001, longest_pause=0.01, park_after=0.05, retry_parked=3600.0)


class Recording:
    """A receiver that has what it took in order; `refuse` says whom it does not."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.attempts: Counter[str] = Counter()
        self.refuse: Callable[[dict[str, Any]], str] = lambda told: ""
        self.moved = asyncio.Event()
        self.closed = False

    async def deliver(self, outgoing: Outgoing) -> None:
        told = json.loads(outgoing.body)
        self.attempts[told["subject"]] += 1
        await asyncio.sleep(0)
        if reason := self.refuse(told):
            raise NotDelivered(reason)
        self.taken.append(told)
        self.moved.set()

    async def close(self) -> None:
        self.closed = True

    def texts(self, key: str) -> list[str]:
        """Return what was taken of a key, in order."""
        return [told["data"].get("text", "") for told in self.taken if told["subject"] == key]


class Slow(Recording):
    """A receiver that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def deliver(self, outgoing: Outgoing) -> None:
        self.attempts["all"] += 1
        await self.may.wait()
        await super().deliver(outgoing)


async def sign(log: MemoryLog, paper: str, *texts: str) -> None:
    """Write events, as an aggregate would."""
    records = [
        NewRecord(
            "Signed",
            Signed.__rayfold__.encode(Signed(paper=paper, text=text)),
            {"schemaVersion": "1", "$correlationId": "c", "traceparent": "00-1-2-01"},
            str(uuid4()),
        )
        for text in texts
    ]
    await log.append([StreamAppend(f"paper-{paper}", ANY, records)])


@asynccontextmanager
async def publishing(
    log: MemoryLog,
    receiver: Recording,
    definition: Any = News.__rayfold__,
    patience: Patience = HASTY,
) -> AsyncIterator[Publisher]:
    """Run a publisher; it is cancelled in the end."""
    publisher = Publisher(
        REGISTRY, definition, log, receiver, source="/test", patience=patience, connections=8
    )
    running = asyncio.create_task(publisher.run())
    await until(lambda: publisher.ready)
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (conditions of all sorts)
            await asyncio.sleep(0.002)
