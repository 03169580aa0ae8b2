"""What a receiver did not take in time is told as the log reads by then."""

from __future__ import annotations

import asyncio
import sys

from eventstore.memory import MemoryLog
from eventstore.personal.keys import MemoryKeys
from eventstore.personal.log import PersonalLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
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
            event = Registered(customer_id="ada", email=email)
            data = Registered.__rayfold__.encode(event)
            record = NewRecord("Registered", data, {}, f"00000000-0000-4000-8000-{len(email):012}")
            await log.append([StreamAppend("customer-ada", ANY, [record])])
        await until(lambda: receiver.attempts["ada"] > 1)
        keys.forget("ada")
        receiver.refuse = lambda told: "no" if "@" in told["data"]["text"] else ""
        await until(lambda: len(receiver.taken) == 2)
        assert receiver.texts("ada") == [FORGOTTEN, FORGOTTEN]
    finally:
        running.cancel()
        await asyncio.wait([running])
