"""Reactors with a server and Postgres: what is done once, retried, parked and reported."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
import pytest

from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.errors import PostgresUnavailable, UnknownTarget
from projections.parked_pages import Asked
from projections.poison import NAMED
from projections.reactors import reactor_runner
from projections.reactors.attempts import TABLES
from projections.reactors.reactor_runner import ReactorRunner, message_timeout
from rayfold import (
    Aggregate,
    Attempt,
    Command,
    Event,
    Message,
    Reactor,
    ReactorDefinition,
    Registry,
    on,
)

DEADLINE = 60.0

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rayfold'"


class Ring(Command, name="ring-bell"):
    bell: str
    text: str


class BellRang(Event, name="BellRang"):
    bell: str
    text: str


class BellState(Message):
    pass


class Bell(
    Aggregate[BellState, Ring, BellRang], category="bell", id_field="bell", initial=BellState()
):
    @staticmethod
    def decide(state: BellState, command: Ring) -> list[BellRang]:
        return [BellRang(bell=command.bell, text=command.text)]

    @staticmethod
    def evolve(state: BellState, event: BellRang) -> BellState:
        return state


class Listening(Reactor, name="listening", attempts=3, timeout=1.0):
    """Does what a text says, and notes each attempt."""

    attempts: ClassVar[list[tuple[str, Attempt]]] = []
    done: ClassVar[Counter[str]] = Counter()
    broken: ClassVar[set[str]] = set()
    opens: ClassVar[int] = 0
    meanwhile: ClassVar[Callable[[], Awaitable[None]] | None] = None

    async def open(self) -> None:
        Listening.opens += 1
        if "open" in self.broken:
            self.broken.discard("open")
            raise RuntimeError("no way to the mail server")

    @on(BellRang)
    async def rang(self, event: BellRang, attempt: Attempt) -> None:
        self.attempts.append((event.text, attempt))
        if event.text in self.broken:
            raise RuntimeError(f"breaks on {event.text}")
        if event.text.startswith("slow") and f"past {event.text}" not in self.broken:
            await asyncio.sleep(3600)
        self.done[event.text] += 1
        if self.meanwhile is not None:
            await self.meanwhile()


REGISTRY = Registry([sys.modules[__name__]])
REGISTRY_OF_TENANTS = Registry([sys.modules[__name__]], tenants=True)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with nothing noted, and without long pauses."""
    for kept in (Listening.attempts, Listening.done, Listening.broken):
        kept.clear()
    monkeypatch.setattr(Listening, "meanwhile", None)
    monkeypatch.setattr(reactor_runner, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reactor_runner, "TIDY", 0.1)
    monkeypatch.setattr(reactor_runner, "OPEN_AGAIN", 0.01)


class Bells:
    """A group, a table, and consumers that come and go."""

    def __init__(self, store: EventLog, groups: PersistentSubscriptions, dsn: str) -> None:
        self.registry = REGISTRY
        self.store = store
        self.groups = groups
        self.dsn = dsn
        self.definition = ReactorDefinition(Listening, f"r-{uuid4().hex[:8]}", 3, 1.0, False)
        self.group = f"group-{self.definition.name}"
        self.bell = uuid4().hex[:8]
        self.start = 0

    async def begin(self) -> None:
        """Make the group, from here on."""
        self.start = await self.store.end_position(["bell-"])
        await self.make_group()
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(TABLES)
        await connection.close()

    async def make_group(self) -> None:
        """Make the group as it was at first: all is delivered again."""
        timeout = message_timeout(self.definition)
        await self.groups.delete(self.group)
        await self.groups.create_by_types(self.group, ["BellRang"], self.start, timeout)

    async def ring(self, *texts: str, stream: str = "bell") -> None:
        """Write events."""
        records = [
            NewRecord(
                "BellRang",
                BellRang.__rayfold__.encode(BellRang(bell=self.bell, text=text)),
                {"schemaVersion": "1"},
                str(uuid4()),
            )
            for text in texts
        ]
        await self.store.append([StreamAppend(f"{stream}-{self.bell}", ANY, records)])

    @asynccontextmanager
    async def consuming(self, *, dies: bool = False) -> AsyncIterator[ReactorRunner]:
        """Run a consumer; in the end it is told to stop, or `dies` and notes nothing."""
        groups = PersistentSubscriptions(self.groups._uri)
        runner = ReactorRunner(
            self.registry, self.definition, self.store, groups, self.group, self.start, self.dsn
        )
        running = asyncio.create_task(runner.run())
        try:
            await until(lambda: runner.status()["ready"])
            yield runner
        finally:
            if dies:
                runner._unnoted.clear()
            running.cancel()
            await asyncio.wait([running])
            await groups.close()

    async def value(self, statement: str) -> Any:
        """Return what is asked for."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def go_away(self) -> None:
        """Take away where attempts are noted: nothing is, as in an outage."""
        await self.execute("ALTER TABLE rayfold_reaction RENAME TO elsewhere")

    async def come_back(self) -> None:
        """Give it back."""
        await self.execute("ALTER TABLE elsewhere RENAME TO rayfold_reaction")

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Change what is noted."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(statement, *arguments)
        await connection.close()


@pytest.fixture
async def bells(eventstore: str, postgres: str) -> AsyncIterator[Bells]:
    """A reactor of its own for each test."""
    store, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    bells = Bells(store, groups, postgres)
    await bells.begin()
    yield bells
    await groups.delete(bells.group)
    await groups.close()
    await store.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (conditions of all sorts)
            await asyncio.sleep(0.01)


async def parked(runner: ReactorRunner, number: int) -> list[Any]:
    """Return what is parked, once it is so much."""
    async with asyncio.timeout(DEADLINE):
        while len(found := await runner.parked()) != number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def test_each_event_is_handled_once_and_not_again_by_the_next_consumer(bells: Bells) -> None:
    async with bells.consuming() as runner:
        await bells.ring("one", "two")
        await until(lambda: runner.status()["events"] == 2)  # and noted
    async with bells.consuming():
        await bells.ring("three")
        await until(lambda: Listening.done["three"])
    assert Listening.done == {"one": 1, "two": 1, "three": 1}
    _, attempt = Listening.attempts[0]
    assert (attempt.number, attempt.interrupted) == (1, False)
    assert attempt.stream == f"bell-{bells.bell}"
    assert attempt.recorded_at is not None
    assert len({attempt.id for _, attempt in Listening.attempts}) == 3


async def test_records_are_found_by_index_even_if_the_statement_was_planned_for_a_small_table(
    bells: Bells,
) -> None:
    async with bells.consuming() as runner:
        await bells.ring("first")
        await until(lambda: runner.status()["events"] == 1)
    await bells.execute("ANALYZE rayfold_reaction")  # it is a page, or less
    read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'rayfold_reaction'"
    before = await bells.value(read)
    async with bells.consuming() as runner:
        await bells.ring(*(f"{number}" for number in range(20)))
        await until(lambda: runner.status()["events"] == 20)
    async with asyncio.timeout(DEADLINE):
        while await bells.value(SESSIONS):  # noqa: ASYNC110 (they say it when they end)
            await asyncio.sleep(0.02)
    assert await bells.value(read) == before


async def test_an_attempt_has_the_tenant_of_its_event_and_an_event_without_one_is_parked(
    bells: Bells,
) -> None:
    bells.registry, bell = REGISTRY_OF_TENANTS, bells.bell
    async with bells.consuming() as runner:
        for tenant in ("acme", "globex"):
            bells.bell = f"{tenant}:{bell}"
            await bells.ring(f"of {tenant}")
        bells.bell = bell  # as another client may write it
        await bells.ring("of nobody")
        [found] = await parked(runner, 1)
        await until(lambda: Listening.done.total() == 2)
    assert "is of no tenant" in found.error
    assert {(text, attempt.tenant) for text, attempt in Listening.attempts} == {
        ("of acme", "acme"),
        ("of globex", "globex"),
    }


async def test_a_handled_event_is_not_handled_again_when_it_is_delivered_again(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor_runner, "TIDY", 3600.0)
    async with bells.consuming() as runner:
        await bells.ring("one", "two")
        await until(lambda: runner.status()["events"] == 2)  # and noted
    await bells.make_group()  # no acknowledgement has reached the server
    async with bells.consuming():
        await bells.ring("three")
        await until(lambda: Listening.done["three"])
    assert Listening.done == {"one": 1, "two": 1, "three": 1}


async def test_an_event_that_fails_is_tried_again_and_then_parked_while_others_go_on(
    bells: Bells,
) -> None:
    Listening.broken.add("bad")
    async with bells.consuming() as runner:
        await bells.ring("bad", "good")
        [found] = await parked(runner, 1)
        await until(lambda: Listening.done["good"])
        numbers = [attempt.number for text, attempt in Listening.attempts if text == "bad"]
        assert numbers == [1, 2, 3]
        assert len({attempt.id for text, attempt in Listening.attempts if text == "bad"}) == 1
        assert not any(attempt.interrupted for _, attempt in Listening.attempts)
        assert found.key == f"0@bell-{bells.bell}"
        assert "breaks on bad" in found.error
        assert await runner.replay(found.key) is False
        Listening.broken.clear()
        assert await runner.replay(found.key) is True
        assert Listening.done["bad"] == 1
        assert await runner.parked() == []
        with pytest.raises(UnknownTarget):
            await runner.replay(found.key)


async def tried_again(bells: Bells, runner: ReactorRunner) -> tuple[Any, asyncio.Task[bool]]:
    """Ring what broke, and breaks no more: the attempt that was asked for hangs."""
    await bells.ring("slow one")
    [found] = await parked(runner, 1)
    Listening.broken.clear()
    replaying = asyncio.create_task(runner.replay(found.key))
    await until(lambda: len(Listening.attempts) == 4)
    return found, replaying


async def test_a_parked_event_stays_parked_if_the_process_dies_that_retries_it(
    bells: Bells,
) -> None:
    """The event was acknowledged to the server, so it would not be delivered again."""
    Listening.broken.add("slow one")
    async with bells.consuming() as runner:
        found, replaying = await tried_again(bells, runner)
        assert await runner.parked() == [found]
        replaying.cancel()
        await asyncio.wait([replaying])
    Listening.broken.add("past slow one")
    async with bells.consuming() as runner:
        await until(lambda: runner.status()["parked"] == 1)
        assert await runner.parked() == [found]
        assert await runner.replay(found.key) is True
        assert await runner.parked() == []
    assert [attempt.interrupted for _, attempt in Listening.attempts] == [False] * 4 + [True]


async def test_an_event_that_one_process_retries_cannot_be_retried_or_discarded_by_another(
    bells: Bells,
) -> None:
    bells.definition = replace(bells.definition, timeout=DEADLINE)
    Listening.broken.add("slow one")
    async with bells.consuming() as runner, bells.consuming() as other:
        found, replaying = await tried_again(bells, runner)
        for each in (runner, other):
            for decide in (each.replay, each.discard):
                with pytest.raises(UnknownTarget, match="is being tried again"):
                    await decide(found.key)
        assert await other.parked() == [found]
        replaying.cancel()
        await asyncio.wait([replaying])
        await other.discard(found.key)
        assert await runner.parked() == []
    assert len(Listening.attempts) == 4


async def test_a_process_that_loses_its_lock_on_a_retried_event_stops_and_another_can_retry_it(
    bells: Bells,
) -> None:
    """Otherwise its result would replace the other's: a handled event would be parked again."""
    bells.definition = replace(bells.definition, timeout=DEADLINE)
    Listening.broken.add("slow one")
    async with bells.consuming() as runner, bells.consuming() as other:
        found, replaying = await tried_again(bells, runner)
        connection = await asyncpg.connect(bells.dsn)
        [ended] = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND (classid::bigint << 32 | objid::bigint) = hashtextextended($1, 0)",
            f"rayfold reactor {bells.definition.name} {found.key}",
        )
        await connection.close()
        assert ended[0]
        with pytest.raises(PostgresUnavailable):
            await replaying
        Listening.broken.add("past slow one")
        assert await other.replay(found.key) is True
        assert await runner.parked() == []
    assert Listening.done["slow one"] == 1
    assert Listening.attempts[-1][1].interrupted


async def test_a_parked_event_can_be_discarded(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor_runner, "TIDY", 0.05)
    Listening.broken.add("bad")
    async with bells.consuming() as runner:
        await bells.ring(*["bad"] * (NAMED + 2))
        found = await parked(runner, NAMED + 2)
        await until(lambda: runner.status()["parked"] == NAMED + 2)
        named = [each["event"] for each in runner.status()["poison"]]
        assert named == [each.key for each in found[:NAMED]]
        behind = Asked(after=(found[0].position + 1, "", "", "", ""), limit=1)
        assert await runner.parked(behind) == found[1:3]
        await runner.discard(found[0].key)
        assert await runner.parked() == found[1:]
        with pytest.raises(UnknownTarget):
            await runner.discard(found[0].key)


async def test_one_parked_event_is_found_without_reading_all_others(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor_runner, "TIDY", 3600.0)  # it counts them once
    many, name = 3000, bells.definition.name
    await bells.execute(
        "INSERT INTO rayfold_reaction SELECT $1, 'bell-' || n, 0, n, 'parked', 3, 'broke'"
        " FROM generate_series(1, $2::int) n",
        name,
        many,
    )
    read = (
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables"
        " WHERE relname = 'rayfold_reaction'"
    )
    before = await bells.value(read)
    async with bells.consuming() as runner:
        for number in range(1, 6):
            await runner.discard(f"0@bell-{number}")
        with pytest.raises(UnknownTarget):
            await runner.discard("0@bell-1")
        for unheard_of in ("x@bell-9", "9", f"{10**30}@bell-9"):
            with pytest.raises(UnknownTarget):
                await runner.discard(unheard_of)
    async with asyncio.timeout(DEADLINE):
        while await bells.value(SESSIONS):  # noqa: ASYNC110 (they say it when they end)
            await asyncio.sleep(0.02)
    assert await bells.value(read) - before < 2 * many


async def test_an_attempt_knows_that_the_process_of_the_one_before_died(bells: Bells) -> None:
    async with bells.consuming(dies=True):
        await bells.ring("slow")
        await until(lambda: Listening.attempts)
        # It dies here: what it did outside, nobody knows.
    Listening.broken.add("past slow")
    async with bells.consuming():
        await until(lambda: Listening.done["slow"])
    first, second = [attempt for _, attempt in Listening.attempts]
    assert (first.number, first.interrupted) == (1, False)
    assert (second.number, second.interrupted) == (2, True)
    assert first.id == second.id


async def test_the_status_says_why_a_reactor_cannot_continue(bells: Bells) -> None:
    async with bells.consuming() as runner:
        await bells.go_away()
        try:
            await until(lambda: "error" in runner.status())
            said = runner.status()["error"]
        finally:
            await bells.come_back()
        await bells.ring("one")
        await until(lambda: Listening.done["one"])
    assert said == 'UndefinedTableError: relation "rayfold_reaction" does not exist'


async def test_an_attempt_that_takes_too_long_is_cancelled_and_counts_as_failed(
    bells: Bells,
) -> None:
    async with bells.consuming() as runner:
        await bells.ring("slow")
        # From the second attempt on it is as late as its event, and not as what has just come.
        await until(lambda: runner.status().get("held_seconds", 0) > 1 < len(Listening.attempts))
        [found] = await parked(runner, 1)
    assert "no end in 1 s" in found.error
    assert [attempt.number for _, attempt in Listening.attempts] == [1, 2, 3]


async def test_an_attempt_that_a_planned_stop_cuts_off_does_not_count(bells: Bells) -> None:
    """Releases may follow each other faster than a handler ends."""
    bells.definition = replace(bells.definition, attempts=1, timeout=DEADLINE)
    for stops in (1, 2):
        async with bells.consuming():
            if stops == 1:
                await bells.ring("slow")
            await until(lambda at=stops: len(Listening.attempts) == at)
    Listening.broken.add("past slow")
    async with bells.consuming() as runner:
        await until(lambda: Listening.done["slow"])
        assert await runner.parked() == []
    told = [(attempt.number, attempt.interrupted) for _, attempt in Listening.attempts]
    assert told == [(1, False), (1, True), (1, True)]


async def test_an_event_on_which_every_process_dies_is_parked(bells: Bells) -> None:
    async with bells.consuming(dies=True):
        await bells.ring("slow")
        await until(lambda: Listening.attempts)
    await bells.execute(
        "UPDATE rayfold_reaction SET attempts = 3 WHERE reactor = $1", bells.definition.name
    )
    async with bells.consuming() as runner:
        [found] = await parked(runner, 1)
    assert found.error == "its process died at every attempt"
    assert len(Listening.attempts) == 1


async def test_an_outage_as_a_handler_ends_is_not_a_death_and_the_result_is_recorded_later(
    bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor_runner, "TIDY", DEADLINE)  # it would find out first
    monkeypatch.setattr(Listening, "meanwhile", bells.go_away)
    bells.definition = replace(bells.definition, attempts=1)
    async with bells.consuming() as runner:
        await bells.ring("one")
        await until(lambda: "error" in runner.status())
        monkeypatch.setattr(Listening, "meanwhile", None)
        await bells.come_back()
        await bells.ring("two")
        await until(lambda: runner.status()["events"] == 2)
        assert await runner.parked() == []
    assert Listening.done == {"one": 1, "two": 1}


async def test_an_attempt_interrupted_by_an_outage_does_not_count(bells: Bells) -> None:
    bells.definition = replace(bells.definition, attempts=1, timeout=DEADLINE)
    async with bells.consuming() as runner:
        await bells.ring("slow")
        await until(lambda: Listening.attempts)
        await bells.go_away()
        await until(lambda: "error" in runner.status())
        Listening.broken.add("past slow")
        await bells.come_back()
        await until(lambda: runner.status()["events"] == 1)
        assert await runner.parked() == []
    told = [(attempt.number, attempt.interrupted) for _, attempt in Listening.attempts]
    assert told == [(1, False), (1, True)]


async def test_a_reactor_that_fails_to_open_is_opened_again(bells: Bells) -> None:
    Listening.broken.add("open")
    opens = Listening.opens
    async with bells.consuming():
        await bells.ring("one")
        await until(lambda: Listening.done["one"])
    assert Listening.opens == opens + 2


async def test_events_of_the_same_type_in_foreign_streams_are_ignored(bells: Bells) -> None:
    async with bells.consuming():
        await bells.ring("theirs", stream="others")
        await bells.ring("ours")
        await until(lambda: Listening.done["ours"])
    assert Listening.done == {"ours": 1}


async def test_records_of_handled_events_are_deleted_once_the_server_will_not_deliver_them_again(
    bells: Bells,
) -> None:
    async with bells.consuming():
        await bells.ring(*map(str, range(20)))
        await until(lambda: len(Listening.done) == 20)
        connection = await asyncpg.connect(bells.dsn)
        async with asyncio.timeout(DEADLINE):
            counting = "SELECT count(*) FROM rayfold_reaction WHERE reactor = $1"
            while await connection.fetchval(counting, bells.definition.name):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await connection.close()


async def test_consumers_share_the_events(bells: Bells) -> None:
    async with bells.consuming() as one, bells.consuming() as other:
        await bells.ring(*map(str, range(100)))

        def counts() -> list[int]:
            return [each.status()["events"] for each in (one, other)]

        await until(lambda: sum(counts()) == 100)
        assert min(counts()) > 0
    assert Listening.done == {str(number): 1 for number in range(100)}
