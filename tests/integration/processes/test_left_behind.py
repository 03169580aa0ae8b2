"""What a changed domain no longer handles is reported with what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg

from actors.envelope import enclose
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from deploy.stack.left_behind import left_behind
from domain.inventory.stock import ReceiveStock
from domain.inventory.views import StockLevels
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from projections.postgres.schema import prepare
from rayfold import Registry
from tests.contract.processes.stages import Stage, named, until, waits_for

FAR = datetime(2100, 1, 1, tzinfo=UTC)


async def test_what_the_new_domain_no_longer_handles_is_reported(
    registry: Registry, postgres: str
) -> None:
    connection = await asyncpg.connect(postgres)
    log, definition = MemoryLog(), named("told")
    async with Stage(log, registry, definition, postgres=postgres) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        received = enclose(registry, ReceiveStock(sku="tea", quantity=1))
        await Schedules(log).schedule(received, FAR)
        unreadable = NewRecord("CommandScheduled", b"[]", {}, str(uuid4()))
        await log.append([StreamAppend("schedule-another-clients", None, [unreadable])])
        runner = ScheduleRunner(registry, log, stage.writes.bus, postgres)
        await runner.start()
        await until(lambda: _are(connection, 3))
        await runner.stop()
    await prepare(connection, [StockLevels.__rayfold__], {"stock-levels": 1})

    before = Registry.load("domain")
    before.processes[definition.name] = definition
    assert await left_behind(connection, before) == []

    after = Registry.load("domain")
    del after.commands["receive-stock"], after.views["stock-levels"]
    process, command, view = await left_behind(connection, after)
    assert process.startswith(f"1 open processes of {definition.name!r}, '{order}' for instance")
    assert command.startswith("1 commands 'receive-stock' are scheduled")
    assert view.endswith('DROP TABLE "stock_levels"')

    await connection.execute('DROP TABLE "stock_levels"')
    assert len(await left_behind(connection, after)) == 2
    await connection.close()


async def test_a_timeout_without_a_handler_is_reported_before_it_is_due(postgres: str) -> None:
    registry = Registry.load("domain")
    connection = await asyncpg.connect(postgres)
    definition = named("untimely")
    async with Stage(MemoryLog(), registry, definition, postgres=postgres) as stage:
        order = await stage.order(await stage.stock())
        await until(lambda: waits_for(stage, order) == 1)
        await until(lambda: _are(connection, 1, f"process:{definition.name}"))
    registry.processes[definition.name] = definition
    definition.timeouts.clear()
    found = [each for each in await left_behind(connection, registry) if definition.name in each]
    assert len(found) == 1
    assert "'payment', which no longer has a handler" in found[0]
    await connection.close()


async def _are(connection: Any, number: int, kind: str = "") -> bool:
    """Whether the index of what is open has as many."""
    if await connection.fetchval("SELECT to_regclass('rayfold_open')") is None:
        return False
    found = await connection.fetchval(
        "SELECT count(*) FROM rayfold_open WHERE starts_with(kind, $1)", kind
    )
    return bool(found == number)
