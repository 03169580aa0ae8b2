"""What a receiver did not accept in time is published as the log reads by then."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.personal.log import PersonalLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord
from projections.publications import deliveries
from projections.publications import outgoing as outgoing_module
from projections.publications import publisher as publisher_module
from projections.publications.lanes import MOST_IN_LANE
from projections.publications.outgoing import Derivation, Outgoing
from projections.publications.publisher import Publisher
from projections.publications.settings import Patience
from rayfold import FORGOTTEN, IntegrationEvent, Personal, Publication, Registry, on
from tests.memory_keys import MemoryKeys
from tests.personal import people
from tests.personal.people import AccountClosed, Registered
from tests.unit.projections.publications.papers import Recording, Slow, until


class Newcomer(IntegrationEvent, name="newcomer", subject="name"):
    name: str
    text: Personal[str]


class Newcomers(Publication[Newcomer], name="newcomers", key="name"):
    @staticmethod
    @on(Registered)
    def told(event: Registered) -> Newcomer:
        return Newcomer(name=event.customer_id, text=event.email)


class Greeting(IntegrationEvent, name="greeting"):
    name: str
    text: str = "welcome"


class Letters(Publication[Newcomer | Greeting], name="letters", key="name"):
    """Tells less of who is forgotten: what follows moves up."""

    @staticmethod
    @on(Registered)
    def told(event: Registered) -> list[Newcomer | Greeting]:
        greetings = [Greeting(name=event.customer_id), Greeting(name=event.customer_id, text="bye")]
        if event.email == FORGOTTEN:
            return [*greetings]
        return [Newcomer(name=event.customer_id, text=event.email), *greetings]


class Closed(IntegrationEvent, name="closed"):
    holder: str


class Closings(Publication[Closed], name="closings", key="holder"):
    @staticmethod
    @on(AccountClosed)
    def told(event: AccountClosed) -> Closed:
        return Closed(holder=event.holder)


REGISTRY = Registry([people, sys.modules[__name__]])


async def register(log: PersonalLog, *customers: tuple[str, str]) -> None:
    """Write events together, as aggregates would: of each a name and an address."""
    appends = []
    for customer, email in customers:
        data = Registered.__rayfold__.encode(Registered(customer_id=customer, email=email))
        record = NewRecord("Registered", data, {}, str(uuid4()))
        appends.append(StreamAppend(f"customer-{customer}", ANY, [record]))
    await log.append(appends)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["left", "deleted before"])
async def test_a_person_forgotten_behind_a_slow_delivery_is_no_longer_published(
    monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    """Nothing has failed: the delivery waits for a free connection."""
    monkeypatch.setattr(deliveries, "PROMPT", 0.0)
    keys, receiver = MemoryKeys(), Slow()
    log = PersonalLog(MemoryLog(), keys)
    publisher = Publisher(
        REGISTRY, Newcomers.__rayfold__, log, receiver, source="/test", connections=1
    )
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        await register(log, ("bob", "bob@example.org"))
        await until(lambda: receiver.attempts["all"] == 1)
        await register(log, ("ada", "ada@example.org"))
        await until(lambda: publisher.status()["waiting"] == 2)
        if is_deleted:
            await log.delete_stream("customer-ada")
        keys.forget("ada")
        receiver.may.set()
        await until(lambda: publisher.status()["waiting"] == 0)
        assert receiver.texts("bob") == ["bob@example.org"]
        assert receiver.texts("ada") == ([] if is_deleted else [FORGOTTEN])
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_what_is_still_published_of_a_forgotten_person_keeps_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, receiver = Away(), Slow()
    async with late(monkeypatch, store, receiver, Letters.__rayfold__) as publisher:
        await register(store.personal, ("ada", "ada@example.org"))
        await until(lambda: publisher.status()["waiting"] == 3)
        (raw,) = [each async for each in store.personal.read_stream("customer-ada")]
        known = Derivation(REGISTRY, Letters.__rayfold__, "/test").outgoing(raw)
        store.keys.forget("ada")
        receiver.may.set()
        await until(lambda: publisher.status()["waiting"] == 0)
        # The first was on its way already.
        assert receiver.texts("ada") == ["ada@example.org", "welcome", "bye"]
        assert [told["id"] for told in receiver.taken] == [each.id for each in known]


async def test_a_person_forgotten_while_a_batch_waits_for_room_is_no_longer_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is decrypted at once, but published one by one as the receiver accepts events."""
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    for module in (deliveries, outgoing_module, publisher_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(publisher_module, "MOST_WAITING", 1)
    keys, receiver = MemoryKeys(), Slow()
    log = PersonalLog(MemoryLog(), keys)
    publisher = Publisher(REGISTRY, Newcomers.__rayfold__, log, receiver, source="/test")
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        await register(log, ("bob", "bob@example.org"), ("ada", "ada@example.org"))
        await until(lambda: receiver.attempts["all"] == 1)
        keys.forget("ada")
        now = 1000.0
        receiver.may.set()
        await until(lambda: len(receiver.taken) == 2)
        assert receiver.texts("ada") == [FORGOTTEN]
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_person_forgotten_during_retries_is_no_longer_published() -> None:
    keys, receiver = MemoryKeys(), Recording()
    log = PersonalLog(MemoryLog(), keys)
    receiver.refuse = lambda told: "not now"
    patience = Patience(0.001, 0.01, 60.0, 3600.0)
    publisher = Publisher(
        REGISTRY, Newcomers.__rayfold__, log, receiver, source="/test", patience=patience
    )
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        for email in ("first@example.org", "second@example.org"):
            await register(log, ("ada", email))
        await until(lambda: receiver.attempts["ada"] > 1)
        keys.forget("ada")
        receiver.refuse = lambda told: "no" if "@" in told["data"]["text"] else ""
        await until(lambda: len(receiver.taken) == 2)
        assert receiver.texts("ada") == [FORGOTTEN, FORGOTTEN]
    finally:
        running.cancel()
        await asyncio.wait([running])


class Away(MemoryLog):
    """A store that tells of nobody while it is `away`, which by `now` is for long."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0
        self.now = 0.0
        self.keys = MemoryKeys()
        self.personal = PersonalLog(self, self.keys)

    async def read_stream(self, stream: str, **how: Any) -> AsyncGenerator[RawRecord, None]:
        if not stream.startswith("rayfold-"):
            self.asked += 1
            if self.away:
                self.now += 1000.0
                raise StoreUnavailable("away")
        async for raw in super().read_stream(stream, **how):
            yield raw


PATIENT = Patience(0.001, 0.01, 500.0, 3600.0)


@asynccontextmanager
async def late(
    monkeypatch: pytest.MonkeyPatch,
    store: Away,
    receiver: Recording,
    definition: Any = Newcomers.__rayfold__,
    patience: Patience = PATIENT,
) -> AsyncIterator[Publisher]:
    """Run a publisher all of whose events have waited."""
    monkeypatch.setattr(deliveries, "PROMPT", -1.0)
    clock = SimpleNamespace(monotonic=lambda: store.now, time=time.time)
    monkeypatch.setattr(publisher_module, "time", clock)
    publisher = Publisher(
        REGISTRY, definition, store.personal, receiver, source="/test", patience=patience
    )
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.ready)
        yield publisher
    finally:
        running.cancel()
        await until(running.done)


@pytest.mark.parametrize(
    ("events", "refusals"), [(MOST_IN_LANE + 2, 0), (MOST_IN_LANE + 2, 1), (1, 1)]
)
async def test_a_store_that_is_down_parks_no_key_whose_receiver_answers(
    monkeypatch: pytest.MonkeyPatch, events: int, refusals: int
) -> None:
    store, receiver = Away(), Recording()
    receiver.refuse = lambda told: "not now" if receiver.attempts["ada"] <= refusals else ""
    async with late(monkeypatch, store, receiver) as publisher:
        store.away = True
        for number in range(events):
            await register(store.personal, ("ada", f"{number}@example.org"))
        await until(lambda: publisher.status()["waiting"] == events and store.asked > 3)
        assert publisher.status()["error"] == "key ada: away"
        store.away = False
        await until(lambda: publisher.parked or len(receiver.taken) == events)
        assert not publisher.parked


class Hanging(Recording):
    """A receiver that gives no answer for one key."""

    def __init__(self, hangs: str) -> None:
        super().__init__()
        self.under_way: list[str] = []
        self._hangs = hangs

    async def deliver(self, outgoing: Outgoing) -> None:
        self.under_way.append(outgoing.key)
        try:
            if outgoing.key == self._hangs:
                await asyncio.Event().wait()
            await super().deliver(outgoing)
        finally:
            self.under_way.remove(outgoing.key)


@pytest.mark.parametrize("of_a_range", [False, True], ids=["parked", "range"])
async def test_a_repeated_delivery_reports_that_the_store_stays_down(
    monkeypatch: pytest.MonkeyPatch, of_a_range: bool
) -> None:
    store, receiver = Away(), Hanging("")
    receiver.refuse = lambda told: "not now"
    at_once = Patience(0.001, 0.01, -1.0, 3600.0)
    async with late(monkeypatch, store, receiver, patience=at_once) as publisher:
        for customer in ("ada", "bob"):
            await register(store.personal, (customer, f"{customer}@example.org"))
        await until(lambda: len(publisher.parked) == 2)
        receiver._hangs = "bob"

        def goes_away(told: dict[str, Any]) -> str:
            store.away = "bob" in receiver.under_way
            return "not now"

        receiver.refuse = goes_away
        with pytest.raises(StoreUnavailable):
            await (publisher.replay(0, 2**62) if of_a_range else publisher.retry())
        assert not receiver.under_way
        receiver._hangs, store.away = "", False
        receiver.refuse = lambda told: ""
        assert await publisher.retry() == {"released": 2, "parked": 0}


async def test_a_publisher_that_waits_for_the_store_stops_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Away()
    for_ever = Patience(3600.0, 3600.0, 3600.0, 3600.0)
    async with late(monkeypatch, store, Recording(), patience=for_ever) as publisher:
        store.away = True
        await register(store.personal, ("ada", "ada@example.org"))
        await until(lambda: publisher.status()["failing"])


async def test_the_log_is_not_read_again_for_events_without_personal_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, receiver = Away(), Recording()
    async with late(monkeypatch, store, receiver, Closings.__rayfold__):
        data = AccountClosed.__rayfold__.encode(AccountClosed(holder="ada"))
        record = NewRecord("AccountClosed", data, {}, str(uuid4()))
        await store.append([StreamAppend("account-ada", ANY, [record])])
        await until(lambda: receiver.taken)
        assert not store.asked
