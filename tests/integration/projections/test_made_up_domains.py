"""Whatever a domain declares and holds, all stores agree with the log: also after a restart and
a rebuild, and with poison in it.

`RAYFOLD_MADE_UP=500` tries so many domains.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from actors.errors import DecisionFailed, InvalidCommand, StreamUnreadable
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.memory import replica as replica_module
from projections.memory.replica import Replica
from projections.operations.differences import Difference
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.poison import Parked
from projections.postgres import schema
from projections.postgres.reader import PostgresReader
from projections.row_query import RowQuery, RowResult
from projections.stores import runner
from projections.supervision.placements import Placements
from rayfold import Registry, Rejected, ViewDefinition
from tests.generated.domains import MadeUp, domains
from tests.integration.projections.postgres_projector import Projector

TIMEOUT = 20.0
DOMAINS = int(os.environ.get("RAYFOLD_MADE_UP", "25"))

pytestmark = pytest.mark.filterwarnings("ignore:Field name .* shadows")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr(replica_module, "RETRY", 0.01)


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Replicas and projectors that follow the log."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Stores:
    """The read side of a made-up domain: one replica, and a Postgres of its own."""

    def __init__(self, made: MadeUp, log: MemoryLog, dsn: str) -> None:
        self.registry: Registry = made.registry
        self.log = log
        self.dsn = dsn
        self.views: list[ViewDefinition] = list(made.registry.views.values())
        self.parked: list[Parked] = []
        self.refused: set[tuple[str, str]] = set()
        """Rows that Postgres does not take, by view and key. Memory has them.

        The key is empty where the whole view has stopped in Postgres.
        """

    async def follow(self, partitions: int, rebuild: bool = False) -> None:
        """From a start to a stop: come to the log's end, rebuild if asked to, and verify."""
        if any(view.on_poison == "stop" for view in self.views):
            partitions = 1  # each partition of a view stops at poison of its own
        await self._with_connection(
            lambda c: schema.prepare(c, self.views, {view.name: partitions for view in self.views})
        )
        replica = Replica(self.registry, [view.name for view in self.views], self.log)
        projectors = [
            Projector(self.registry, self.log, self.dsn, self.views, at, partitions)
            for at in range(partitions)
        ]
        end = await self.log.end_position(self.registry.prefixes)
        async with running(replica, *projectors):
            for part in (replica, *projectors):
                assert await part.progress.reached(end, TIMEOUT), part.status()
            self._note(*projectors)
            await self.verify(replica, end)
            if not rebuild:
                return
            for view in self.views:
                await replica.rebuild(view.name)
                await self._rebuild(view, end)
            await self.verify(replica, end)

    async def _rebuild(self, view: ViewDefinition, end: int) -> None:
        table = await self._with_connection(lambda each: schema.begin_generation(each, view))
        only = [view]
        builder = Projector(self.registry, self.log, self.dsn, only, generations={view.name: table})

        async def reached(position: int) -> int | None:
            return position if await builder.progress.reached(position, TIMEOUT) else None

        async with running(builder):
            assert await reached(end) is not None, builder.status()
            self._note(builder)
            if "stopped" in builder.status():
                return  # what serves goes on to serve
            await self._with_connection(lambda each: schema.switch(each, view, table, reached))

    def _note(self, *projectors: Projector) -> None:
        parked = [each for projector in projectors for each in projector.parked()]
        self.parked += parked
        for each in parked:
            if each.by_store:
                view = self.registry.views[each.view]
                self.refused.add((view.name, "" if view.on_poison == "stop" else each.key))

    async def verify(self, replica: Replica, end: int) -> None:
        """Nothing differs from a fold of the log; queries of both stores give the same."""
        afresh = await fold_afresh(self.registry, self.log, end)
        reader = PostgresReader(self.registry, Placements(), self.dsn)
        await reader.store.connect()
        try:
            for view in self.views:
                table = afresh[view.name]
                asked = sample(table)
                for store, found in (
                    ("memory", replica.snapshot(view.name, asked)),
                    ("postgres", await reader.snapshot(view.name, asked)),
                ):
                    differences = compare_store(store, table, asked, found, end)
                    found = [each for each in differences if not self._is_refused(each)]
                    assert found == [], (self.refused, self.parked)
                for ask in asks_of(view, table.rows):
                    if self._lacks(view.name, ask.key):
                        continue
                    [remembered] = replica.answer([ask])
                    stored = await reader.ask(ask, time.monotonic() + TIMEOUT)
                    assert isinstance(remembered, RowResult)
                    assert same(view, remembered.body, stored.body), ask
        finally:
            await reader.store.close()

    def _is_refused(self, difference: Difference) -> bool:
        return difference.store == "postgres" and self._lacks(difference.view, difference.key)

    def _lacks(self, view: str, key: str | None) -> bool:
        return (view, key) in self.refused or (view, "") in self.refused

    async def _with_connection(self, do: Any) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await do(connection)
        finally:
            await connection.close()


def same(view: ViewDefinition, one: bytes | None, other: bytes | None) -> bool:
    """Whether two documents say the same; the order of what is in a set does not count."""
    if one is None or other is None:
        return one is other
    return one == other or (
        view.model.model_validate_json(one, extra="ignore")
        == view.model.model_validate_json(other, extra="ignore")
    )


def asks_of(view: ViewDefinition, keys: Iterable[str]) -> list[RowQuery]:
    """Every row by its key, and one that is not there."""
    return [RowQuery(view.name, key, 0, {}, 0, None) for key in (*keys, "no such key")]


async def append(log: MemoryLog, records: Sequence[tuple[str, NewRecord]]) -> None:
    """Write records that no command of today has led to."""
    for stream, record in records:
        await log.append([StreamAppend(stream, ANY, [record])])


async def traffic(made: MadeUp, log: MemoryLog, commands: Sequence[Any]) -> None:
    """Send them all; what is refused or breaks is told so, and nothing else is."""
    runtime = LocalRuntime(made.registry, log)
    for command in commands:
        try:
            await runtime.send(command)
        except (Rejected, DecisionFailed):
            assert command.how_ in ("no", "break")
        except (StreamUnreadable, InvalidCommand):
            assert made.poisonous
        else:
            assert command.how_ not in ("no", "break")


@settings(
    max_examples=DOMAINS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink one would take minutes
    report_multiple_bugs=False,
)
@given(data=st.data())
async def test_all_stores_agree_with_the_log(postgres: str, data: st.DataObject) -> None:
    made = data.draw(domains())
    commands, old = st.lists(made.commands, max_size=8), st.lists(made.old, max_size=3)
    connection = await asyncpg.connect(postgres)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    log = MemoryLog()
    stores = Stores(made, log, postgres)
    await append(log, data.draw(old))
    await traffic(made, log, data.draw(commands))
    await stores.follow(partitions=1)
    await append(log, data.draw(old))
    await traffic(made, log, data.draw(commands))
    await stores.follow(partitions=data.draw(st.integers(1, 2)), rebuild=True)
