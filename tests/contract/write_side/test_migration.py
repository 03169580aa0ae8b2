"""Tables of states that change with the code: under load, and refused if data would be lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import Field

from actors.errors import StreamUnreadable, WriteSideError
from actors.host.state import migration
from actors.host.state.filling import cut_streams, fill
from actors.host.state.postgres import PostgresStates, prepare_states
from actors.host.state.tables import OWN, SCHEMA, layout_found, lock
from actors.host.state.verification import verify_states
from actors.local import LocalRuntime
from deploy.errors import StartError
from deploy.stack.migrating import migrate
from deploy.stack.settings import load
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Command, Event, Message, Receipt, Registry, RenamedFrom, StateStored, Storage


class Pay(Command, name="pay", creates=True):
    till: UUID
    cents: int
    by: str = "ada"


class Paid(Event, name="Paid"):
    till: UUID
    cents: int
    by: str


class Payment(Message):
    cents: int
    by: str


class NewPayment(Message):
    cents: int
    payer: Annotated[str, RenamedFrom("by")]


class Before(Message):
    total: int = 0
    count: int = 0
    last: str = ""
    payments: tuple[Payment, ...] = ()


class After(Message):
    total: int = 0
    latest: Annotated[str, RenamedFrom("last")] = ""
    currency: str = "EUR"
    note: str | None = None
    payments: tuple[NewPayment, ...] = ()


class Entry(Message):
    cents: int
    payer: Annotated[str, RenamedFrom("by")]
    note: str = "none"
    place: str | None = None


class Renamed(Message):
    total: int = 0
    count: int = 0
    last: str = ""
    entries: Annotated[tuple[Entry, ...], RenamedFrom("payments")] = ()


class Short(Message):
    total: Annotated[int, Field(le=2**200)] = 0
    count: int = 0
    last: Annotated[str, Field(max_length=3)] = ""
    payments: tuple[Payment, ...] = ()


class Undecided(Message):
    total: str = ""
    count: UUID = UUID(int=0)
    last: str = ""
    owner: str
    payments: tuple[Payment, ...] = ()


class Wider(Message):
    total: str = ""
    count: int = 0
    last: str = ""
    payments: tuple[Payment, ...] = ()


def evolve_wider(state: Wider, event: Paid) -> Wider:
    return state.replace(total=f"{state.total}{event.cents}", count=state.count + 1)


def till(state: type[Message], evolve: Any, storage: Storage = Storage.STATE) -> Any:
    """The same aggregate, as one version of the code has it."""

    class Till(
        StateStored[state, Pay, Paid],  # type: ignore[valid-type]
        category="till",
        id_field="till",
        initial=state() if state is not Undecided else Undecided(owner=""),  # type: ignore[call-arg]
        storage=storage,
    ):
        @staticmethod
        def decide(state: Any, command: Pay) -> Iterable[Paid]:
            return [Paid(till=command.till, cents=command.cents, by=command.by)]

    Till.evolve = staticmethod(evolve)  # type: ignore[method-assign]
    module = ModuleType("tills")
    Till.__module__ = "tills"
    Till.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    module.Till = Till  # type: ignore[attr-defined]
    return Registry([module])


def evolve_before(state: Before, event: Paid) -> Before:
    return state.replace(
        total=state.total + event.cents,
        count=state.count + 1,
        last=event.by,
        payments=(*state.payments, Payment(cents=event.cents, by=event.by)),
    )


def evolve_after(state: After, event: Paid) -> After:
    return state.replace(
        total=state.total + event.cents,
        latest=event.by,
        payments=(*state.payments, NewPayment(cents=event.cents, payer=event.by)),
    )


def evolve_renamed(state: Renamed, event: Paid) -> Renamed:
    return state.replace(
        total=state.total + event.cents,
        count=state.count + 1,
        last=event.by,
        entries=(*state.entries, Entry(cents=event.cents, payer=event.by)),
    )


OLD = till(Before, evolve_before)
NEW = till(After, evolve_after)
WAITS = (
    "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE locktype = 'advisory' AND NOT granted AND d.datname = current_database())"
)
BY_EVENTS = till(Before, evolve_before, Storage.EVENTS)


@pytest.fixture
async def connection(postgres: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres)
    await connection.execute(OWN)
    yield connection
    for table in ("till_payments", "till_entries", "till"):
        await connection.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{table}")
    for own, column in (("_layout", "category"), ("_outbox", "stream"), ("_command", "stream")):
        await connection.execute(f"DELETE FROM {SCHEMA}.{own} WHERE {column} LIKE 'till%'")
    await connection.close()


class Version:
    """A process that runs one version of the code."""

    def __init__(self, registry: Registry, log: MemoryLog, dsn: str) -> None:
        self.registry = registry
        self.states = PostgresStates(dsn, registry.state_stored)
        self.runtime = LocalRuntime(registry, log, states=self.states)

    async def pay(self, till: UUID, cents: int = 1, by: str = "ada") -> Receipt:
        return await self.runtime.send(Pay(till=till, cents=cents, by=by))

    async def close(self) -> None:
        await self.runtime.host.drain()

    async def state(self, till: UUID) -> Any:
        kept = await self.states.load(self.registry.aggregates["till"], f"till-{till}")
        assert kept is not None
        return kept.state if kept.current else None


async def test_a_migration_keeps_every_row_while_both_versions_write(
    postgres: str, connection: Any
) -> None:
    log, tills = MemoryLog(), [uuid4() for _ in range(20)]
    old = Version(OLD, log, postgres)
    for each in tills:
        await old.pay(each, 100)
    with pytest.raises(WriteSideError, match="rayfold migrate"):
        await prepare_states(postgres, NEW)
    stop, sent = asyncio.Event(), 0

    async def load(version: Version) -> None:
        nonlocal sent
        while not stop.is_set():
            for each in tills:
                await version.pay(each, 1, "grace")
                sent += 1

    writing = asyncio.create_task(load(old))
    plan = await migration.expand(connection, NEW.aggregates["till"])
    assert plan.refused == []
    assert "add till.latest, with the values of last" in plan.said
    assert "stop using till.count: it stays until --drop" in plan.said
    assert "add till_payments.payer, with the values of by" in plan.said
    await prepare_states(postgres, NEW)
    await prepare_states(postgres, OLD)  # a host of the old version that is started again
    new = Version(NEW, log, postgres)
    also = asyncio.create_task(load(new))
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(writing, also)
    again = await migration.expand(connection, NEW.aggregates["till"])
    assert again.said == []
    total = 0
    for each in tills:
        last = await new.pay(each, 1, "last")
        state = await new.state(each)
        assert state.latest == "last"
        assert state.currency == "EUR"
        assert len(state.payments) == last.revision + 1
        assert state.total == sum(payment.cents for payment in state.payments)
        assert {payment.payer for payment in state.payments} <= {"ada", "grace", "last"}
        total += state.total
    assert total == 20 * 100 + sent + 20
    said = await migration.drop(connection, NEW.aggregates["till"])
    assert sorted(said) == [
        "removed till.count",
        "removed till.last",
        "removed till_payments.by",
    ]
    assert (await new.pay(tills[0], 1)).revision > 1
    await old.close()
    await new.close()


@pytest.mark.parametrize(
    ("till", "by", "why"),
    [
        ("nul\0", "ada", "Postgres cannot keep it"),
        (str(UUID(int=7)), "a\0b", "has a character that Postgres cannot keep"),
    ],
)
async def test_a_state_that_rows_cannot_hold_is_reported_by_its_stream_and_others_are_loaded(
    postgres: str, connection: Any, till: str, by: str, why: str
) -> None:
    """Such a state was written by another client, or was event-sourced before."""
    log, known = MemoryLog(), uuid4()
    version = Version(OLD, log, postgres)
    await version.pay(known, 5)
    data = json.dumps({"till": str(UUID(int=7)), "cents": 5, "by": by}).encode()
    paid = NewRecord("Paid", data, {}, str(uuid4()))
    await log.append([StreamAppend(f"till-{till}", None, [paid])])
    with pytest.raises(StreamUnreadable, match=why) as told:
        await fill(OLD, log, version.states, OLD.aggregates["till"])
    assert repr(f"till-{till}") in told.value.detail
    states, aggregate = version.states, OLD.aggregates["till"]
    found = await asyncio.gather(
        *(states.load(aggregate, f"till-{each}") for each in (till, known, till))
    )
    assert [each is not None for each in found] == [False, True, False]
    await version.close()


async def test_rows_suffice_for_a_stream_whose_history_was_cut(
    postgres: str, connection: Any
) -> None:
    log, till = MemoryLog(), uuid4()
    old = Version(OLD, log, postgres)
    for _ in range(4):
        await old.pay(till, 5)
    log._truncate(f"till-{till}", 3)
    await migration.expand(connection, NEW.aggregates["till"])
    new = Version(NEW, log, postgres)
    await new.pay(till, 5, "grace")
    state = await new.state(till)
    assert (state.total, state.latest, len(state.payments)) == (25, "grace", 5)
    with pytest.raises(StreamUnreadable, match="rayfold migrate"):
        await old.pay(till)  # its row is the new version's, and its history is gone
    await old.close()
    await new.close()


async def test_a_list_by_another_name_keeps_its_rows_while_both_versions_write(
    postgres: str, connection: Any
) -> None:
    log, cut, other = MemoryLog(), uuid4(), uuid4()
    old = Version(OLD, log, postgres)
    for each in (cut, cut, cut, other):
        await old.pay(each, 5)
    log._truncate(f"till-{cut}", 2)  # its rows are all that there is of it
    registry = till(Renamed, evolve_renamed)
    aggregate = registry.aggregates["till"]
    plan = await migration.expand(connection, aggregate)
    assert plan.said == ["make the table till_entries, with the rows of till_payments"]
    new = Version(registry, log, postgres)
    state = await new.state(cut)
    assert [(each.cents, each.payer, each.note, each.place) for each in state.entries] == [
        (5, "ada", "none", None)
    ] * 3
    await new.pay(cut, 7, "grace")
    assert len((await new.state(cut)).entries) == 4
    await old.pay(other, 6)  # the old one goes on, and its rows are converted the next time
    with pytest.raises(migration.OldCodeWrites, match="replace what still runs it"):
        await migration.drop(connection, aggregate)
    assert (await migration.expand(connection, aggregate)).said == []
    state = await new.state(other)
    assert [each.cents for each in state.entries] == [5, 6]
    assert await migration.drop(connection, aggregate) == ["removed the table till_payments"]
    assert (await new.pay(other, 1)).revision == 2
    assert len((await new.state(other)).entries) == 3
    await old.close()
    await new.close()


async def test_a_row_that_its_model_no_longer_accepts_harms_no_other(
    postgres: str, connection: Any
) -> None:
    log, long, well, cut = MemoryLog(), uuid4(), uuid4(), uuid4()
    old = Version(OLD, log, postgres)
    await old.pay(long, 5, "augusta")
    await old.pay(well, 5)
    for _ in range(2):
        await old.pay(cut, 5, "augusta")
    log._truncate(f"till-{cut}", 1)

    def shortened(state: Short, event: Paid) -> Short:
        return state.replace(total=state.total + event.cents, last=event.by[:3])

    new = Version(till(Short, shortened), log, postgres)
    answers = await asyncio.gather(
        new.pay(long, 1), new.pay(well, 1), new.pay(cut, 1), return_exceptions=True
    )
    assert [each.revision for each in answers[:2]] == [1, 1]  # type: ignore[union-attr]
    assert (await new.state(long)).total == 6  # folded from the log
    assert isinstance(answers[2], StreamUnreadable)
    assert "last: " in str(answers[2])
    assert "make the model accept it" in str(answers[2])
    await old.close()
    await new.close()


async def test_a_change_that_cannot_be_derived_is_refused_with_what_to_write(
    postgres: str, connection: Any
) -> None:
    old = Version(OLD, MemoryLog(), postgres)
    await old.pay(uuid4())
    wanted = till(Undecided, lambda state, event: state).aggregates["till"]
    before = await layout_found(connection, "till")
    plan = await migration.expand(connection, wanted)
    assert any("till.owner" in each and "default" in each for each in plan.refused)
    assert any("till.count is uuid now and was numeric" in each for each in plan.refused)
    assert not any("till.total" in each for each in plan.refused)  # wider: text holds all numbers
    assert await layout_found(connection, "till") == before
    await old.pay(uuid4())
    await old.close()


async def test_a_column_is_changed_to_a_wider_type_and_keeps_its_values(
    postgres: str, connection: Any
) -> None:
    log, till_id = MemoryLog(), uuid4()
    old = Version(OLD, log, postgres)
    await old.pay(till_id, 7)
    wider = till(Wider, evolve_wider)
    plan = await migration.expand(connection, wider.aggregates["till"])
    assert plan.refused == []
    new = Version(wider, log, postgres)
    await old.pay(till_id, 8)  # the old version goes on, with a statement of another type
    await new.pay(till_id, 9)
    assert (await new.state(till_id)).total == "789"
    await old.close()
    await new.close()


async def test_an_aggregate_is_moved_to_tables_and_back_under_load(
    postgres: str, connection: Any
) -> None:
    """Hosts of both versions run at once, each way; nothing is lost, nothing is there twice."""
    log, tills = MemoryLog(), [uuid4() for _ in range(12)]
    folded, stored = Version(BY_EVENTS, log, postgres), Version(OLD, log, postgres)
    acknowledged: dict[UUID, list[int]] = {each: [] for each in tills}
    stop = asyncio.Event()
    running: list[Version] = [folded]

    async def client(till: UUID) -> None:
        while not stop.is_set():
            for version in list(running):
                receipt = await version.pay(till)
                acknowledged[till].append(receipt.revision)

    clients = [asyncio.create_task(client(each)) for each in tills for _ in range(2)]

    async def in_all(number: int) -> None:
        wanted = sum(map(len, acknowledged.values())) + number
        async with asyncio.timeout(60):
            while sum(map(len, acknowledged.values())) < wanted:
                assert not any(each.done() for each in clients)
                await asyncio.sleep(0.01)

    await in_all(100)
    running.append(stored)  # both at once, as in an upgrade
    await in_all(100)
    await fill(OLD, log, stored.states, OLD.aggregates["till"])
    running.remove(folded)
    await in_all(200)
    assert await cut_streams(OLD, log, stored.states, OLD.aggregates["till"]) == []
    running.append(folded)
    await in_all(100)
    running.remove(stored)
    await in_all(100)
    stop.set()
    await asyncio.gather(*clients)
    again = Version(OLD, log, postgres)  # and once more: rows that are behind the log
    for each in tills:
        last = await again.pay(each)
        revisions = [raw.revision async for raw in log.read_stream(f"till-{each}")]
        assert revisions == list(range(last.revision + 1))
        assert sorted(acknowledged[each]) == revisions[:-1]
        state = await again.state(each)
        assert state.count == state.total == len(revisions)
    for version in (stored, again):
        await version.close()


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """A database of its own, as one that a stack has."""
    connection = await asyncpg.connect(postgres)
    await connection.execute("CREATE DATABASE migrating")
    yield postgres.replace("/postgres?", "/migrating?")
    await connection.execute("DROP DATABASE migrating WITH (FORCE)")
    await connection.close()


async def test_the_command_moves_an_aggregate_each_way_while_clients_write(
    own_eventstore: str,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With `rayfold migrate`, as an operator does it, and hosts of both versions on a real log."""
    log = EventLog(own_eventstore)
    settings = load(data=tmp_path, eventstore=own_eventstore, postgres=database, domain="domain")
    tills = [uuid4() for _ in range(12)]
    acknowledged: dict[UUID, list[int]] = {each: [] for each in tills}
    folded, stored = Version(BY_EVENTS, log, database), Version(OLD, log, database)
    running, stop = [folded], asyncio.Event()

    async def client(till: UUID) -> None:
        while not stop.is_set():
            for version in list(running):
                acknowledged[till].append((await version.pay(till)).revision)

    clients = [asyncio.create_task(client(each)) for each in tills for _ in range(2)]

    async def in_all(number: int) -> None:
        wanted = sum(map(len, acknowledged.values())) + number
        async with asyncio.timeout(60):
            while sum(map(len, acknowledged.values())) < wanted:
                assert not any(each.done() for each in clients)
                await asyncio.sleep(0.01)

    async def migrated(registry: Registry) -> str:
        monkeypatch.setattr(Registry, "load", lambda *_, **__: registry)
        assert await migrate(settings, plan=False, drop=False, refold=[]) == 0
        return capsys.readouterr().out

    await in_all(100)
    assert "till: make the table till_payments" in await migrated(OLD)
    running.append(stored)
    await in_all(100)
    running.remove(folded)
    await in_all(200)
    assert "till: event-sourced from now on; its tables stay until --drop" in await migrated(
        BY_EVENTS
    )
    running.append(folded)
    await in_all(100)
    running.remove(stored)
    await in_all(100)
    await migrated(OLD)  # and once more: the tables are there, and behind the log
    running.append(stored)
    await in_all(100)
    stop.set()
    await asyncio.gather(*clients)
    for each in tills:
        revisions = [raw.revision async for raw in log.read_stream(f"till-{each}")]
        assert sorted(acknowledged[each]) == revisions == list(range(len(revisions)))
        last = await stored.pay(each)
        state = await stored.state(each)
        assert state.count == state.total == last.revision + 1
    assert await verify_states(OLD, log, stored.states) == []
    print(f"{sum(map(len, acknowledged.values())):,} receipts")
    await stored.close()
    await folded.close()
    await log.close()


async def test_rows_that_were_not_kept_while_event_sourced_are_made_again(
    own_eventstore: str,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Meanwhile `evolve` may have changed, persons may be forgotten and streams deleted."""
    log = EventLog(own_eventstore)
    settings = load(data=tmp_path, eventstore=own_eventstore, postgres=database, domain="domain")

    async def migrated(registry: Registry, done: int = 0, *, plan: bool = False) -> str:
        monkeypatch.setattr(Registry, "load", lambda *_, **__: registry)
        assert await migrate(settings, plan=plan, drop=False, refold=[]) == done
        return capsys.readouterr().out

    await migrated(OLD)
    stored, idle, gone = Version(OLD, log, database), uuid4(), uuid4()
    for each in (idle, gone):
        await stored.pay(each)
    await migrated(BY_EVENTS)
    await log.delete_stream(f"till-{gone}", tombstone=False)
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE rayfold_state.till SET total = 99")
    undecided = till(Undecided, lambda state, event: state)
    for plan in (True, False):  # nothing of the rest is done, nor told as if it were
        told = await migrated(undecided, 1, plan=plan)
        assert {each.partition(" ")[2].partition(":")[0] for each in told.splitlines()} == {
            "REFUSED"
        }
    assert await connection.fetchval("SELECT sum(total) FROM rayfold_state.till") == 2 * 99
    assert "till: empty till, till_payments: " in await migrated(OLD, plan=True)
    await migrated(OLD)
    rows = await connection.fetch("SELECT _id, total FROM rayfold_state.till")
    assert [(row["_id"], row["total"]) for row in rows] == [(str(idle), 1)]
    assert await verify_states(OLD, log, stored.states) == []
    await connection.execute("UPDATE rayfold_state._layout SET storage = 'events'")
    async with connection.transaction():  # another is before it, and has filled them
        await lock(connection)
        behind = asyncio.create_task(migrated(OLD))
        async with asyncio.timeout(30):
            while not await connection.fetchval(WAITS):
                assert not behind.done()
                await asyncio.sleep(0.02)
        await connection.execute("UPDATE rayfold_state._layout SET storage = 'state'")
    assert "nothing to do" in await behind
    assert await connection.fetchval("SELECT count(*) FROM rayfold_state.till") == 1
    await connection.close()
    await stored.close()
    await log.close()


async def test_the_command_prints_a_plan_executes_it_and_then_has_nothing_to_do(
    own_eventstore: str, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(data=tmp_path, eventstore=own_eventstore, postgres=database, domain="domain")

    async def said(**options: Any) -> tuple[int, str]:
        wanted: dict[str, Any] = {"plan": False, "drop": False, "refold": [], **options}
        return await migrate(settings, **wanted), capsys.readouterr().out

    assert "customer: make the table customer_addresses" in (await said(plan=True))[1]
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT to_regclass('rayfold_state._layout')") is None
    code, told = await said()
    assert (code, "nothing to do" in told) == (0, False)
    assert "customer: 0 rows written from the log" in told
    await connection.execute("UPDATE rayfold_state._layout SET filled = false")
    assert await said() == (0, "customer: 0 rows written from the log\n")
    assert await said() == (0, "customer: nothing to do\n")
    await connection.execute("UPDATE rayfold_state._layout SET category = 'order'")
    with pytest.raises(WriteSideError, match="order: the code says another storage"):
        await prepare_states(database, Registry.load("domain"))
    assert "order: keep its state in its events alone" in (await said(plan=True))[1]
    await connection.execute("UPDATE rayfold_state._layout SET category = 'customer'")
    with pytest.raises(StartError, match="'order' is state-stored"):
        await said(refold=["order"])
    await connection.close()
