"""Rows that Postgres refuses: they are parked in Postgres only, while all others go on."""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import Field

from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from projections import discarded_events
from projections.errors import BadCursor, named
from projections.memory.bootstrap import fill
from projections.memory.replica import Replica
from projections.pages import Place, Start, encode_cursor
from projections.postgres.reader import PostgresReader
from projections.postgres.schema import prepare
from projections.row_query import RowQuery
from projections.stores import runner
from projections.supervision.placements import Placements
from rayfold import Aggregate, Command, Event, Message, Registry, View, on
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.test_poison import dsn

__all__ = ["dsn"]

TIMEOUT = 20.0


class Nothing(Message):
    """It knows nothing of itself."""


class Put(Command, name="put"):
    """Some text and a number."""

    thing: str
    number: int = 0
    text: str = ""


class WasPut(Event, name="WasPut"):
    """It was put."""

    thing: str
    number: int = 0
    text: str = ""


class Thing(Aggregate[Nothing, Put, WasPut], category="thing", id_field="thing", initial=Nothing()):
    """Says yes to everything."""

    @staticmethod
    def decide(state: Nothing, command: Put) -> Iterable[WasPut]:
        return [WasPut(**dict(command))]

    @staticmethod
    def evolve(state: Nothing, event: WasPut) -> Nothing:
        return state


class Things(View, name="things", key="thing", indexes=("text",)):
    """As they were put, in columns that do not take everything."""

    thing: str
    number: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0  # a bigint
    text: str = ""

    @staticmethod
    @on(WasPut)
    def put(thing: Things, event: WasPut) -> Things:
        # Unlike `replace`, this does not look at what it is given.
        return thing.model_copy(update={"number": event.number, "text": event.text})


class Counts(View, name="counts", key="thing"):
    """How often each was put: takes whatever key Postgres takes."""

    thing: str
    times: int = 0

    @staticmethod
    @on(WasPut)
    def put(count: Counts, event: WasPut) -> Counts:
        return count.replace(times=count.times + 1)


REGISTRY = Registry([__import__("sys").modules[__name__]])
VIEWS = [Things.__rayfold__, Counts.__rayfold__]
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=6000))
"""More than an index row holds, also compressed."""

REFUSED = {
    "a number beyond 64 bits": (WasPut(thing="bad", number=2**70), 1),
    "a NUL": (WasPut(thing="bad", text="a\0b"), 1),
    "a key that no index holds": (WasPut(thing=LONG), 2),
    "a key with a NUL": (WasPut(thing="b\0d"), 2),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY", 0.01)


async def put(log: MemoryLog, *events: WasPut) -> None:
    for event in events:
        stream = f"stream-{uuid4()}"
        data = event.__rayfold__.encode(event)
        await log.append(
            [StreamAppend(stream, None, [NewRecord("WasPut", data, {}, str(uuid4()))])]
        )


@asynccontextmanager
async def projecting(log: MemoryLog, dsn: str) -> AsyncIterator[Projector]:
    connection = await asyncpg.connect(dsn)
    await prepare(connection, VIEWS, {view.name: 1 for view in VIEWS})
    await connection.close()
    projector = Projector(REGISTRY, log, dsn, VIEWS)
    task = asyncio.create_task(projector.run())
    try:
        assert await projector.progress.reached(await log.end_position(["stream-"]), TIMEOUT)
        yield projector
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def rows(dsn: str, view: str) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn)
    try:
        records = await connection.fetch(f"SELECT * FROM {view}")
        return {record["thing"]: dict(record) for record in records}
    finally:
        await connection.close()


class Log(MemoryLog):
    """Gives out these streams, which have no category of the domain's."""

    async def end_position(self, prefixes: Any) -> int:
        return await super().end_position(["stream-"])

    def subscribe(self, prefixes: Any, after: int | None, *, gather: float = 0.0) -> Any:
        return super().subscribe(["stream-"], after, gather=gather)


@pytest.mark.parametrize("others", [3, 250], ids=["a few rows", "rows by COPY"])
@pytest.mark.parametrize("what", REFUSED)
async def test_a_row_that_postgres_refuses_is_parked_and_all_others_go_on(
    dsn: str, what: str, others: int
) -> None:
    refused, views = REFUSED[what]
    log = Log()
    good = [WasPut(thing=f"good-{at}", number=at) for at in range(others)]
    await put(log, *good[:2], refused, *good[2:])
    async with projecting(log, dsn) as projector:
        found = projector.parked()
        assert {(each.key, each.by_store) for each in found} == {(refused.thing, True)}
        assert len(found) == views
        assert not any(str(refused.number or LONG) in each.error for each in found)
        assert projector.runner.error is None
    for view in ("things", "counts"):
        there = await rows(dsn, view)
        assert {f"good-{at}" for at in range(others)} <= there.keys()
    # It is still known after a restart, and what comes for the row waits behind it.
    await put(log, WasPut(thing=refused.thing), WasPut(thing="good-0", number=7))
    async with projecting(log, dsn) as projector:
        assert {each.key for each in projector.parked()} == {refused.thing}
        # With the later event the row is one that Postgres takes, unless it is the key.
        mended = await projector.replay("things", refused.thing)
        assert mended is (views == 1)
        assert len(projector.parked()) == (0 if mended else views)
    there = await rows(dsn, "things")
    assert there["good-0"]["number"] == 7
    assert (refused.thing in there) is mended


PERSON = "ada@example.org"
GIVEN = r"DataError: .*query argument \$1 \("


@pytest.mark.parametrize(
    ("statement", "value", "says"),
    [
        ("SELECT $1::bigint", PERSON, GIVEN + "'str' object cannot be interpreted as an integer"),
        ("SELECT $1::bigint", 2**70, GIVEN + "value out of int64 range"),
        ("SELECT $1::uuid", PERSON, GIVEN + "invalid UUID"),
        ("SELECT $1::bigint[]", [PERSON], GIVEN + "invalid array element at index 0"),
        ("SELECT $1::text::date", f"a\n{PERSON}", "DatetimeFormatError: .* for type date"),
        ("SELECT $1::text::int", str(2**40), "RangeError: value is out of range for type integer"),
        ("SELECT $1::text::json", PERSON, "RepresentationError: .* for type json"),
        ("SELECT 1 / $1::int", 0, "DivisionByZeroError: division by zero"),
        ("INSERT INTO kept VALUES ($1)", "nobody", 'CheckViolationError: .*"kept_key_check"'),
        ("INSERT INTO kept VALUES ($1), ($1)", PERSON, 'UniqueViolationError: .*"kept_pkey"'),
    ],
)
async def test_the_error_has_types_and_names_and_no_values(
    dsn: str, statement: str, value: Any, says: str
) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TEMP TABLE kept (key text PRIMARY KEY CHECK (key LIKE '%@%'))")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.execute(statement, value)
    await connection.close()
    told = named(refused.value)
    assert re.search(says, told)
    assert PERSON not in told
    assert value == 0 or str(value) not in told


@pytest.mark.parametrize("key", [LONG, "b\0d"], ids=["no index holds it", "a NUL"])
async def test_an_event_whose_row_can_never_be_written_can_be_discarded(dsn: str, key: str) -> None:
    log = Log()
    await put(log, WasPut(thing=key), WasPut(thing="good"))
    async with projecting(log, dsn) as projector:
        for parked in projector.parked():
            assert not await projector.replay(parked.view, key)
            await discarded_events.record(log, parked)
            assert await projector.replay(parked.view, key)
        assert projector.parked() == []
    async with projecting(log, dsn) as projector:
        assert projector.parked() == []
    assert (await rows(dsn, "counts")).keys() == {"good"}


async def test_a_query_for_a_value_that_no_row_can_have_is_not_an_error(dsn: str) -> None:
    log = Log()
    await put(log, *(WasPut(thing=each, text=each) for each in ("a", "a!", "b")))
    async with projecting(log, dsn):
        pass
    reader = PostgresReader(REGISTRY, Placements(), dsn)
    await reader.store.connect()

    async def ask(
        key: str | None = None, after: Place | None = None, newest: bool = False, **filters: str
    ) -> Any:
        cursor = encode_cursor(Start(after, newest)) if after else None
        found = await reader.ask(RowQuery("things", key, 0, filters, 10, cursor), 0.0)
        assert found.body is not None or key
        return [each["thing"] for each in json.loads(found.body)["items"]] if found.body else None

    first, *_ = sorted([row["_started"] for row in (await rows(dsn, "things")).values()])
    assert await ask() == ["a", "a!", "b"]
    assert await ask(text="a") == ["a"]
    assert await ask(text="a\0") == []
    assert await ask(key="a\0") is None
    assert await ask(after=Place(first, "a\0b")) == ["a!", "b"]
    assert await ask(after=Place(first, "\0")) == ["a", "a!", "b"]
    last = max(row["_started"] for row in (await rows(dsn, "things")).values())
    assert await ask(after=Place(last, "b\0a"), newest=True) == ["b", "a!", "a"]
    assert await ask(after=Place(last, "\0"), newest=True) == ["a!", "a"]
    with pytest.raises(BadCursor):
        await ask(after=Place(2**63, "a"))
    await reader.store.close()


async def test_a_memory_replica_does_not_start_from_a_table_that_lacks_a_row(dsn: str) -> None:
    log = Log()
    await put(log, WasPut(thing="good"), WasPut(thing="bad", number=2**70))
    async with projecting(log, dsn):
        pass
    filled = await fill(dsn, VIEWS)
    assert [each.table.view.name for each in filled] == ["counts"]
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(filled)
    task = asyncio.create_task(replica.run())
    try:
        assert await replica.progress.reached(await log.end_position(["stream-"]), TIMEOUT)
    finally:
        task.cancel()
    assert {key for key, *_ in replica.rows("things")} == {"good", "bad"}
    assert replica.parked() == []
