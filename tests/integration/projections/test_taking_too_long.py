"""Work on Postgres that takes longer than it may: done in halves, unless Postgres stands still."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections.competing.backfill import Backfill
from projections.postgres import connections as postgres_pools
from projections.postgres.connections import connected
from projections.sql.projector import SqlProjector
from rayfold import SqlProjection, Statement, on, sql
from rayfold.runtime import postgres as postgres_connections
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.relay import Relay
from tests.integration.projections.small import TOTALS, Added, Totals, add
from tests.integration.projections.test_poison import REGISTRY, broken, dsn, there, totals
from tests.integration.projections.test_production_postgres import (
    PATIENCE,
    admin,
    goes_on,
    projecting,
    relay,
    running,
    says,
    until,
)
from tests.integration.projections.test_sql_projection import SMALL, empty, numbers
from tests.integration.projections.test_sql_projection import running as running_sql

__all__ = ["admin", "broken", "dsn", "relay"]
LONG = 1_000


async def test_a_transaction_that_takes_too_long_is_split_in_halves(
    dsn: str, admin: asyncpg.Connection, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it were retried as a whole, it would time out again and again."""
    await admin.execute("ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '200ms'")
    log = MemoryLog()
    await add(log, "a", *range(1, 9))

    class Slow(set[int]):
        def __contains__(self, number: object) -> bool:
            time.sleep(0.06)
            return False

    monkeypatch.setattr(Totals, "broken", Slow())
    async with projecting(log, relay.dsn) as projector:
        await goes_on(log, projector, dsn)


async def test_a_write_of_many_rows_that_takes_too_long_is_split_in_halves(
    dsn: str, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one statement they would time out, however often it is retried."""
    monkeypatch.setattr(postgres_pools, "LONGEST", 0.5)
    await slow_rows(admin, 0.1)
    log = MemoryLog()
    for counter in "abcdefgh":
        await add(log, counter, 1)
    async with projecting(log, dsn) as projector:
        await goes_on(log, projector, dsn)


async def slow_rows(admin: asyncpg.Connection, seconds: float) -> None:
    """Have each new row take so long."""
    await admin.execute(
        "CREATE OR REPLACE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END'"
    )
    await admin.execute(
        "CREATE TRIGGER slowly BEFORE INSERT ON totals FOR EACH ROW EXECUTE FUNCTION slowly()"
    )


async def test_a_backfill_of_competing_consumers_that_takes_too_long_is_split_in_halves(
    dsn: str, admin: asyncpg.Connection
) -> None:
    await slow_rows(admin, 0.1)
    await admin.execute("ALTER DATABASE postgres SET statement_timeout = '500ms'")
    log = MemoryLog()
    for counter in "abcdefgh":
        await add(log, counter, 1)
    backfill = Backfill(REGISTRY, log, dsn, TOTALS, "totals")
    async with running(backfill.run()):
        assert await backfill.progress.reached(await log.end_position(["counter-"]), PATIENCE)
    assert await totals(dsn) == dict.fromkeys("abcdefgh", 1)


async def test_an_event_that_takes_too_long_alone_is_named(
    dsn: str, admin: asyncpg.Connection
) -> None:
    """It is retried for ever, because the reason for the delay may go away."""
    await slow_rows(admin, 1.0)
    await admin.execute("ALTER DATABASE postgres SET statement_timeout = '100ms'")
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "b", 1)
    said = "NotInTime: 0@counter-a takes too long, even alone: QueryCanceledError: "
    backfill = Backfill(REGISTRY, log, dsn, TOTALS, "totals")
    async with projecting(log, dsn) as projector:
        await until(says(projector, said))
    async with running(backfill.run()):
        await until(lambda: said in str(backfill.status().get("error")))
        await admin.execute("DROP TRIGGER slowly ON totals")
        assert await backfill.progress.reached(await log.end_position(["counter-"]), PATIENCE)
    assert await totals(dsn) == {"a": 1, "b": 1}


class Slow(SqlProjection, name="slow-sum", on_poison="skip"):
    """A tenth of a second for each number, and a whole one for `LONG`."""

    schema = "CREATE TABLE seen (number int)"

    @staticmethod
    @on(Added)
    def added(event: Added) -> Iterable[Statement]:
        seconds = 1.0 if event.number == LONG else 0.1
        yield sql("INSERT INTO seen SELECT $1::int FROM pg_sleep($2)", event.number, seconds)


async def test_a_batch_of_custom_sql_that_takes_too_long_is_split_in_halves(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is split down to one event, which has more time when it is retried."""
    monkeypatch.setattr(postgres_pools, "LONGEST", 0.6)
    await empty(dsn, Slow)
    log = MemoryLog()
    await add(log, "a", *range(1, 9), LONG)
    projector = SqlProjector(SMALL, log, dsn, Slow)
    async with running_sql(projector):
        assert await projector.progress.reached(await log.end_position(["counter-"]), PATIENCE)
    assert await numbers(dsn, "slow_sum") == [*range(1, 9), LONG]


async def test_custom_sql_of_one_event_that_takes_too_long_is_named(
    dsn: str, admin: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await admin.execute("ALTER DATABASE postgres SET statement_timeout = '500ms'")
    await empty(dsn, Slow)
    log = MemoryLog()
    await add(log, "a", 1, 2, LONG)
    projector = SqlProjector(SMALL, log, dsn, Slow)
    said = "NotInTime: 2@counter-a takes too long, even alone: QueryCanceledError: "

    def levels() -> list[str]:
        return [each.levelname for each in caplog.records if said in str(vars(each).get("error"))]

    async with running_sql(projector):
        await until(lambda: len(levels()) == 2)
        assert said in projector.status()["error"]
        assert levels() == ["WARNING", "INFO"]  # operators are told once
        await admin.execute("ALTER DATABASE postgres RESET statement_timeout")
        assert await projector.progress.reached(await log.end_position(["counter-"]), PATIENCE)
    assert await numbers(dsn, "slow_sum") == [1, 2, LONG]


async def test_slow_custom_sql_has_more_time_when_an_operator_replays_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await empty(dsn, Slow)
    log = MemoryLog()
    await add(log, "a", LONG)
    projector = SqlProjector(SMALL, log, dsn, Slow)
    async with connected(dsn) as connection:
        await connection.execute("ALTER TABLE slow_sum.seen ADD CHECK (number < 1000)")
        monkeypatch.setattr(postgres_pools, "LONGEST", 0.6)
        async with running_sql(projector):
            assert await projector.progress.reached(await log.end_position(["counter-"]), PATIENCE)
            (parked,) = projector.parked()
            await connection.execute("ALTER TABLE slow_sum.seen DROP CONSTRAINT seen_number_check")
            assert await projector.replay(Slow.name, parked.key)
    assert await numbers(dsn, "slow_sum") == [LONG]


async def test_an_answer_lost_by_a_proxy_is_not_waited_for_forever(
    dsn: str, admin: asyncpg.Connection, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy keeps the connection open, so neither Postgres nor the kernel ends the wait."""
    monkeypatch.setattr(postgres_pools, "LONGEST", 0.5)
    monkeypatch.setattr(postgres_connections, "CANCELLING", 0.1)
    log = MemoryLog()
    async with projecting(log, relay.dsn) as projector:
        await add(log, "a", 1)
        await there(log, [projector])
        relay.lose()
        await add(log, "a", 2)
        await until(says(projector, "no answer in time"))
        await goes_on(log, projector, dsn)


class Quick(SqlProjection, name="quick-sum"):
    """A row for each number."""

    schema = "CREATE TABLE seen (number int)"

    @staticmethod
    @on(Added)
    def added(event: Added) -> Iterable[Statement]:
        yield sql("INSERT INTO seen VALUES ($1)", event.number)


@pytest.mark.parametrize("kind", ["rows", "competing", "sql"])
@pytest.mark.parametrize("silent", ["server", "behind a pooler"])
async def test_a_stalled_postgres_does_not_count_as_a_fault_of_the_events(
    dsn: str,
    admin: asyncpg.Connection,
    relay: Relay,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    silent: str,
) -> None:
    """No batch is halved for it, and no event is named."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(postgres_pools, "LONGEST", 0.3)
    monkeypatch.setattr(postgres_pools, "TIMEOUT", 0.5)
    monkeypatch.setattr(postgres_connections, "CANCELLING", 0.1)
    if silent == "behind a pooler":
        monkeypatch.setattr(postgres_connections, "_pooled", {relay.dsn})
    log = MemoryLog()
    await add(log, "a", 1)
    if kind == "sql":
        await empty(dsn, Quick)
    filler: Projector | Backfill | SqlProjector = {
        "rows": lambda: Projector(REGISTRY, log, relay.dsn, [TOTALS]),
        "competing": lambda: Backfill(REGISTRY, log, relay.dsn, TOTALS, "totals"),
        "sql": lambda: SqlProjector(SMALL, log, relay.dsn, Quick),
    }[kind]()

    def errors() -> list[str]:
        return [str(vars(each)["error"]) for each in caplog.records if "error" in vars(each)]

    async with running(filler.run()):
        assert await filler.progress.reached(await log.end_position(["counter-"]), PATIENCE)
        caplog.clear()  # on a slow machine something may have taken so long before
        relay.freeze() if silent == "server" else relay.stall()
        await add(log, "a", 2, 3)
        await until(lambda: len(errors()) > 2)
        assert not any("takes too long" in each for each in errors())
        monkeypatch.undo()
        relay.thaw()
        assert await filler.progress.reached(await log.end_position(["counter-"]), PATIENCE)
    found = await (numbers(dsn, "quick_sum") if kind == "sql" else totals(dsn))
    assert found == ([1, 2, 3] if kind == "sql" else {"a": 6})
