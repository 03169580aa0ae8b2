"""What a receiver did not take in time is told as the log reads by then."""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.personal.keys import MemoryKeys
from eventstore.personal.log import PersonalLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.publications import deliveries
from projections.publications.outgoing import Outgoing
from projections.publications.publisher import Publisher
from projections.publications.settings import Patience
from rayfold import FORGOTTEN, IntegrationEvent, Personal, Publication, Registry, on
from tests.personal import people
from tests.personal.people import Registered
from tests.unit.projections.publications.papers import Recording, until


class Newcomer(IntegrationEvent, name="newcomer", subject="name"):
    name: str
    text: Personal[str]


class Newcomers(Publication[Newcomer], name="newcomers", key="name"):
    @staticmethod
    @on(Registered)
    def told(event: Registered) -> Newcomer:
        return Newcomer(name=event.customer_id, text=event.email)


async def register(log: PersonalLog, customer: str, email: str) -> None:
    """Write an event, as an aggregate would."""
    data = Registered.__rayfold__.encode(Registered(customer_id=customer, email=email))
    record = NewRecord("Registered", data, {}, str(uuid4()))
    await log.append([StreamAppend(f"customer-{customer}", ANY, [record])])


class Slow(Recording):
    """A receiver that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def deliver(self, outgoing: Outgoing) -> None:
        self.attempts["all"] += 1
        await self.may.wait()
        await super().deliver(outgoing)


async def test_who_is_forgotten_behind_a_slow_delivery_is_told_of_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing has failed: it waits for one of the connections."""
    monkeypatch.setattr(deliveries, "PROMPT", 0.0)
    registry = Registry([people, sys.modules[__name__]])
    keys, receiver = MemoryKeys(), Slow()
    log = PersonalLog(MemoryLog(), keys)
    publisher = Publisher(
        registry, Newcomers.__rayfold__, log, receiver, source="/test", connections=1
    )
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        await register(log, "bob", "bob@example.org")
        await until(lambda: receiver.attempts["all"] == 1)
        await register(log, "ada", "ada@example.org")
        await until(lambda: publisher.status()["waiting"] == 2)
        keys.forget("ada")
        receiver.may.set()
        await until(lambda: len(receiver.taken) == 2)
        assert receiver.texts("bob") == ["bob@example.org"]
        assert receiver.texts("ada") == [FORGOTTEN]
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_who_is_forgotten_meanwhile_is_told_of_no_more() -> None:
    registry = Registry([people, sys.modules[__name__]])
    keys, receiver = MemoryKeys(), Recording()
    log = PersonalLog(MemoryLog(), keys)
    receiver.refuse = lambda told: "not now"
    patience = Patience(0.001, 0.01, 60.0, 3600.0)
    publisher = Publisher(
        registry, Newcomers.__rayfold__, log, receiver, source="/test", patience=patience
    )
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        for email in ("first@example.org", "second@example.org"):
            await register(log, "ada", email)
        await until(lambda: receiver.attempts["ada"] > 1)
        keys.forget("ada")
        receiver.refuse = lambda told: "no" if "@" in told["data"]["text"] else ""
        await until(lambda: len(receiver.taken) == 2)
        assert receiver.texts("ada") == [FORGOTTEN, FORGOTTEN]
    finally:
        running.cancel()
        await asyncio.wait([running])
