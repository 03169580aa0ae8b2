"""A custom SQL projection has every event once, in order, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import date
from functools import partial
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from examples.shop.baskets import BasketBought, ItemPut
from examples.shop.bestsellers import Bestsellers
from projections import discarded_events as discards
from projections.errors import BadQuery, PostgresUnavailable, QueryFailed, UnknownTarget
from projections.postgres import generations
from projections.postgres.reader import PostgresReader
from projections.sql.projector import SqlProjector
from projections.sql.reader import SqlReader
from projections.sql.schema import begin_generation, live, prepare
from projections.stores import runner
from projections.stores.rebuild import enough
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.placements import Placements
from rayfold import Event, Message, Registry, SqlProjection, SqlQuery, Statement, on, sql
from tests.contract.stores.subjects import Here
from tests.integration.projections import small
from tests.integration.projections.histories import BadLog, cuts
from tests.integration.projections.small import Added, add

DEADLINE = 60.0

SESSIONS = "SELECT FROM pg_stat_activity WHERE application_name = 'rayfold'"
READ_WHOLE = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'put'"
SHOP = Registry.load("examples.shop")
DAYS = [date(2026, 11, 24), date(2026, 11, 25)]

items = st.builds(
    ItemPut,
    basket_id=st.sampled_from("abc"),
    sku=st.sampled_from(["tea", "cake"]),
    quantity=st.integers(1, 5),
)
purchases = st.builds(BasketBought, basket_id=st.sampled_from("abc"), day=st.sampled_from(DAYS))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0)


async def empty(dsn: str, *projections: type[SqlProjection]) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for each in projections:
        await connection.execute(f'DROP SCHEMA IF EXISTS "{live(each).relation}" CASCADE')
    await prepare(connection, projections)
    await connection.close()


@asynccontextmanager
async def running(*projectors: SqlProjector) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in projectors]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def fetch(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(each) for each in await connection.fetch(statement)]
    finally:
        await connection.close()


def history_of(events: Iterable[Event]) -> list[RawRecord]:
    at: Counter[str] = Counter()
    log = []
    for number, event in enumerate(events, 1):
        stream = f"basket-{event.basket_id}"  # type: ignore[attr-defined]
        data = event.model_dump_json().encode()
        place = stream, at[stream], 7 * number
        log.append(RawRecord(type(event).__rayfold__.name, data, b"{}", *place, 0))
        at[stream] += 1
    return log


def plainly(events: Iterable[Event]) -> dict[tuple[date, str], int]:
    """What was sold, as one would count it on a whiteboard."""
    put: dict[str, Counter[str]] = {}
    sold: Counter[tuple[date, str]] = Counter()
    for event in events:
        if isinstance(event, ItemPut):
            put.setdefault(event.basket_id, Counter())[event.sku] += event.quantity
        elif isinstance(event, BasketBought):
            for sku, quantity in put.pop(event.basket_id, Counter()).items():
                sold[event.day, sku] += quantity
    return dict(sold)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(items | purchases, max_size=30), cut=cuts, overlap=st.integers(0, 5))
def test_every_event_counts_once_however_the_log_is_delivered(
    postgres: str, events: list[Event], cut: list[int], overlap: int
) -> None:
    history = history_of(events)

    async def run(log: BadLog, end: int) -> None:
        projector = SqlProjector(SHOP, log, postgres, Bestsellers)
        async with running(projector):
            assert await projector.progress.reached(end, DEADLINE)

    async def deliver() -> list[tuple[Any, ...]]:
        await empty(postgres, Bestsellers)
        half = history[: len(history) // 2]
        await run(BadLog(half, cut, overlap), half[-1].position if half else 0)
        await run(BadLog(history, cut, overlap), history[-1].position if history else 0)
        return await fetch(postgres, "SELECT day, sku, quantity FROM bestsellers.sold")

    found = asyncio.run(deliver())
    assert {(day, sku): quantity for day, sku, quantity in found} == plainly(events)


async def test_two_projectors_of_one_projection_do_not_count_twice(postgres: str) -> None:
    await empty(postgres, Bestsellers)
    events = [ItemPut(basket_id="a", sku="tea", quantity=1) for _ in range(200)]
    history = history_of(events)
    rivals = [SqlProjector(SHOP, BadLog(history, [3] * 60, 2), postgres, Bestsellers) for _ in "ab"]
    async with running(*rivals):
        for each in rivals:
            assert await each.progress.reached(history[-1].position, DEADLINE)
    assert await fetch(postgres, "SELECT * FROM bestsellers.put") == [("a", "tea", 200)]


class Strict(SqlProjection, name="strict-sum"):
    """Stops at a number that Postgres refuses."""

    schema = "CREATE TABLE seen (counter text, number int CHECK (number <> 13))"

    @staticmethod
    @on(Added)
    def added(event: Added) -> Iterable[Statement]:
        if event.number == 14:
            raise ValueError("cannot count to 14")
        yield sql("INSERT INTO seen VALUES ($1, 0)", event.counter)
        yield sql("INSERT INTO seen VALUES ($1, $2)", event.counter, event.number)


class Lenient(SqlProjection, name="lenient-sum", on_poison="skip"):
    """The same, but leaves such events out."""

    schema = Strict.schema
    added = Strict.added


SMALL = Registry([small])
SMALL.projections.update({each.name: each for each in (Strict, Lenient)})


async def numbers(dsn: str, schema: str) -> list[int]:
    return [n for (n,) in await fetch(dsn, f"SELECT number FROM {schema}.seen WHERE number > 0")]


@pytest.mark.parametrize(("poison", "error"), [(13, "CheckViolation"), (14, "14"), (2**40, "Data")])
async def test_it_stops_at_an_event_that_fails_after_applying_all_before_it(
    postgres: str, poison: int, error: str
) -> None:
    await empty(postgres, Strict)
    log = MemoryLog()
    await add(log, "a", 1, 2, poison, 4)
    projector = SqlProjector(SMALL, log, postgres, Strict)
    async with running(projector):
        assert await projector.progress.reached(2, DEADLINE)
        assert await numbers(postgres, "strict_sum") == [1, 2]
        [parked] = projector.parked()
        assert parked.key == "2@counter-a"
        assert error in parked.error
        assert error in projector.status()["stopped"]["strict-sum"]
        assert not await projector.replay(Strict.name, parked.key)
        assert await numbers(postgres, "strict_sum") == [1, 2]
        again = projector.parked()[0]
        await discards.record(log, again)
        assert await projector.replay(Strict.name, again.key)
        assert await projector.progress.reached(4, DEADLINE)
        assert await numbers(postgres, "strict_sum") == [1, 2, 4]
        assert projector.parked() == []


async def test_it_can_skip_such_an_event_and_replay_or_discard_it_later(postgres: str) -> None:
    await empty(postgres, Lenient)
    log = MemoryLog()
    await add(log, "a", 1, 13, 3, 13, 5)
    projector = SqlProjector(SMALL, log, postgres, Lenient)
    async with running(projector):
        assert await projector.progress.reached(5, DEADLINE)
        assert await numbers(postgres, "lenient_sum") == [1, 3, 5]
        assert [each.key for each in projector.parked()] == ["1@counter-a", "3@counter-a"]
        reason = 'new row for relation "seen" violates check constraint "seen_number_check"'
        # And no more: `Failing row contains …` says in clear what may be personal data.
        assert projector.parked()[0].error == f"CheckViolationError: {reason}"
        assert not await projector.replay(Lenient.name, "1@counter-a")
        assert [each.key for each in projector.parked()] == ["1@counter-a", "3@counter-a"]
        told = projector.status()
        assert (told["parked"], [each["event"] for each in told["poison"]]) == (
            2,
            ["1@counter-a", "3@counter-a"],
        )
        connection = await asyncpg.connect(postgres)
        await connection.execute("ALTER TABLE lenient_sum.seen DROP CONSTRAINT seen_number_check")
        await connection.close()
        assert await projector.replay(Lenient.name, "1@counter-a")
        assert sorted(await numbers(postgres, "lenient_sum")) == [1, 3, 5, 13]
        [left] = projector.parked()
        await discards.record(log, left)
        assert await projector.replay(Lenient.name, left.key)
        assert sorted(await numbers(postgres, "lenient_sum")) == [1, 3, 5, 13]
        with pytest.raises(UnknownTarget):
            await projector.replay(Lenient.name, left.key)


async def test_skipped_events_are_remembered_after_a_restart(postgres: str) -> None:
    await empty(postgres, Lenient)
    log = MemoryLog()
    await add(log, "a", 1, 13)
    for _ in range(2):
        projector = SqlProjector(SMALL, log, postgres, Lenient)
        async with running(projector):
            await asyncio.wait_for(projector.runner.ready.wait(), DEADLINE)
            assert [each.key for each in projector.parked()] == ["1@counter-a"]


async def test_a_changed_definition_is_found(postgres: str, monkeypatch: Any) -> None:
    await empty(postgres, Bestsellers)
    connection = await asyncpg.connect(postgres)
    assert await prepare(connection, [Bestsellers]) == []
    left = await begin_generation(connection, Bestsellers)
    monkeypatch.setattr(Bestsellers, "version", 2)
    assert await prepare(connection, [Bestsellers]) == [Bestsellers]
    assert await connection.fetchval("SELECT to_regnamespace($1)", left) is None
    await connection.close()


async def test_a_schema_that_postgres_refuses_is_reported_with_the_name_of_its_projection(
    postgres: str, monkeypatch: Any
) -> None:
    await empty(postgres, Bestsellers)
    monkeypatch.setattr(Bestsellers, "schema", "CREATE TABLE put (took intervall)")
    connection = await asyncpg.connect(postgres)
    with pytest.raises(PostgresUnavailable, match="schema of 'bestsellers' is refused"):
        await begin_generation(connection, Bestsellers)
    await connection.close()


async def test_a_dropped_schema_is_noticed_and_rebuilt(postgres: str) -> None:
    await empty(postgres, Lenient)
    log = MemoryLog()
    await add(log, "a", 1, 2)
    connection = await asyncpg.connect(postgres)
    await connection.execute(f'DROP SCHEMA "{live(Lenient).relation}" CASCADE')
    assert await prepare(connection, [Lenient]) == [Lenient]
    await _switch(postgres, log)
    assert await numbers(postgres, live(Lenient).relation) == [1, 2]
    assert await prepare(connection, [Lenient]) == []
    await connection.close()


async def test_statements_use_indexes_even_if_they_were_planned_for_a_small_table(
    postgres: str,
) -> None:
    await empty(postgres, Bestsellers)
    put = [ItemPut(basket_id=f"{n}", sku="tea", quantity=1) for n in range(500)]
    bought = [BasketBought(basket_id=f"{n}", day=DAYS[0]) for n in range(100)]
    history = history_of([*put[:50], *bought[:50], *put[50:], *bought[50:]])

    async def run(log: list[RawRecord]) -> None:
        projector = SqlProjector(SHOP, BadLog(log, [], 0), postgres, Bestsellers)
        async with running(projector):
            assert await projector.progress.reached(log[-1].position, DEADLINE)

    await run(history[:40])
    await fetch(postgres, "ANALYZE bestsellers.put")  # it is a page
    [(before,)] = await fetch(postgres, READ_WHOLE)
    await run(history)
    async with asyncio.timeout(DEADLINE):
        while await fetch(postgres, SESSIONS):  # noqa: ASYNC110 (they say it when they end)
            await asyncio.sleep(0.02)
    assert await fetch(postgres, READ_WHOLE) == [(before,)]


class Count(Message):
    """A number of rows."""

    n: int


PERSON = "ada@example.org"


class HowMany(SqlQuery, name="how-many", projection=Lenient, row=Count):
    """As many as were added; divides by what it is given."""

    by: int = 1

    def statement(self) -> Statement:
        if self.by == 7:
            return sql("SELECT nonsense")
        if self.by == 8:
            return sql("SELECT $1::text AS n", PERSON)
        if self.by == 9:
            return sql("SELECT $1::text::bigint AS n", PERSON)
        return sql("SELECT count(*) / $1::int AS n FROM seen WHERE number > 0", self.by)


class Each(SqlQuery, name="each", projection=Lenient, row=Count):
    """Every number."""

    def statement(self) -> Statement:
        return sql("SELECT number AS n FROM seen WHERE number > 0 ORDER BY number DESC")


class _Here:
    """The projector as a part: in this process."""

    def __init__(self, projector: SqlProjector) -> None:
        self.progress = projector.progress

    async def reached(self, position: int, until: float) -> bool:
        return await self.progress.reached(position, until - time.monotonic())


@asynccontextmanager
async def reads(dsn: str, projector: SqlProjector) -> AsyncIterator[SqlReader]:
    placements = Placements()
    postgres = PostgresReader(SMALL, placements, dsn)
    here: Any = _Here(projector)
    placements.sql_projectors = {"lenient-sum": here}
    yield SqlReader(SMALL, placements, postgres)
    await postgres.store.close()


def until() -> float:
    return time.monotonic() + DEADLINE


async def test_a_query_waits_for_its_token_and_has_a_limit(postgres: str) -> None:
    await empty(postgres, Lenient)
    log = MemoryLog()
    projector = SqlProjector(SMALL, log, postgres, Lenient)
    async with running(projector), reads(postgres, projector) as asked:
        for count in range(1, 13):
            await add(log, "a", count)
            found = await asked.ask(HowMany(), count, until())
            assert found.position >= count
            assert json.loads(found.body or b"")["items"] == [{"n": count}]
        found = await asked.ask(Each(limit=2), 0, until())
        assert json.loads(found.body or b"") == {"items": [{"n": 12}, {"n": 11}], "more": True}
        with pytest.raises(BadQuery, match="division by zero"):
            await asked.ask(HowMany(by=0), 0, until())
        with pytest.raises(BadQuery, match=r"argument \$1 .*out of int32 range") as too_large:
            await asked.ask(HowMany(by=2**40), 0, until())
        assert str(2**40) not in str(too_large.value)
        # What is told, and what is logged as its cause, has no values of rows.
        with pytest.raises(QueryFailed, match=r"do not fit: .*Count\.n: Input should be") as other:
            await asked.ask(HowMany(by=8), 0, until())
        with pytest.raises(BadQuery, match=r"syntax for type bigint$"):
            await asked.ask(HowMany(by=9), 0, until())
        assert PERSON not in str(other.value)
        assert other.value.__cause__ is None
        with pytest.raises(QueryFailed, match="nonsense"):
            await asked.ask(HowMany(by=7), 0, until())


class Planned(SqlQuery, name="planned", projection=Lenient, row=Count):
    """How many ways of planning are kept from it."""

    def statement(self) -> Statement:
        off = "name LIKE 'enable_%' AND setting <> boot_val"
        return sql(f"SELECT count(*) AS n FROM pg_settings WHERE {off}")


async def test_a_query_in_sql_is_planned_as_any_other_statement(postgres: str) -> None:
    await empty(postgres, Lenient)
    projector = SqlProjector(SMALL, MemoryLog(), postgres, Lenient)
    async with running(projector), reads(postgres, projector) as asked:
        found = await asked.ask(Planned(), 0, until())
        assert json.loads(found.body or b"")["items"] == [{"n": 0}]


async def test_no_reader_sees_a_partial_generation_or_an_older_one(postgres: str) -> None:
    await empty(postgres, Lenient)
    log = MemoryLog()
    await add(log, "a", 1)
    projector = SqlProjector(SMALL, log, postgres, Lenient)
    async with running(projector), reads(postgres, projector) as asked:
        stop = asyncio.Event()
        seen = 0

        async def write() -> None:
            while not stop.is_set():
                await add(log, "a", 1)
                await asyncio.sleep(0.002)

        async def read() -> None:
            nonlocal seen
            position = 0
            while not stop.is_set():
                found = await asked.ask(HowMany(), position, until())
                # In a log of these events alone, an event's position is its number.
                assert json.loads(found.body or b"")["items"] == [{"n": found.position}]
                assert found.position >= position
                position = found.position
                seen += 1

        working = [asyncio.create_task(write()), *(asyncio.create_task(read()) for _ in range(3))]
        for _ in range(3):
            await _switch(postgres, log)
        stop.set()
        await asyncio.gather(*working)
        assert seen > 30
        end = await log.end_position(["counter-"])
        assert await projector.progress.reached(end, DEADLINE)
        assert len(await numbers(postgres, "lenient_sum")) == end
        left = await fetch(postgres, "SELECT 1 FROM pg_namespace WHERE nspname LIKE '%\\_\\_%'")
        assert left == []


async def _switch(dsn: str, log: MemoryLog) -> None:
    """Builds and switches, as `building.build` does."""
    connection = await asyncpg.connect(dsn)
    built = await begin_generation(connection, Lenient)
    builder = SqlProjector(SMALL, log, dsn, Lenient, built)
    try:
        async with running(builder):
            await asyncio.wait_for(builder.runner.ready.wait(), DEADLINE)
            await generations.switch(
                connection, live(Lenient), built, partial(enough, Here(builder.progress), None)
            )
    finally:
        await generations.discard(connection, built, "SCHEMA")
        await connection.close()


def test_an_actor_handle_has_what_the_reads_need() -> None:
    assert {"progress", "reached"} <= {
        *dir(ActorHandle),
        *ActorHandle("n", "sql", [], lambda: None).__dict__,
    }
