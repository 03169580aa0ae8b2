"""Whatever a domain declares and holds, all stores agree with the log: also after a restart and
a rebuild, and with poison in it.

`RAYFOLD_MADE_UP=500` tries so many domains; seeds that failed once are kept as examples.
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

from actors.errors import DecisionFailed
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from projections.memory import replica as replica_module
from projections.memory.replica import Replica
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.postgres import runner, schema
from projections.postgres.projector import Projector
from projections.postgres.reader import PostgresReader
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements
from rayfold import Registry, Rejected, ViewDefinition
from tests.generated.domains import MadeUp, domains

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
        builder = Projector(self.registry, self.log, self.dsn, only, tables={view.name: table})

        async def reached(position: int) -> bool:
            return await builder.progress.reached(position, TIMEOUT)

        async with running(builder):
            assert await reached(end), builder.status()
            if "stopped" in builder.status():
                return  # what serves goes on to serve
            await self._with_connection(lambda each: schema.switch(each, view, table, reached))

    async def verify(self, replica: Replica, end: int) -> None:
        """Nothing differs from a fold of the log; queries of both stores give the same."""
        afresh = await fold_afresh(self.registry, self.log, end)
        reader = PostgresReader(self.registry, Placements(), self.dsn)
        await reader.connect()
        try:
            for view in self.views:
                table = afresh[view.name]
                asked = sample(table)
                for store, found in (
                    ("memory", replica.snapshot(view.name, asked)),
                    ("postgres", await reader.snapshot(view.name, asked)),
                ):
                    assert compare_store(store, table, asked, found, end) == []
                for ask in asks_of(view, table.rows):
                    [remembered] = replica.answer([ask])
                    stored = await reader.ask(ask, time.monotonic() + TIMEOUT)
                    assert isinstance(remembered, RowResult)
                    assert remembered.body == stored.body, ask
        finally:
            reader.close()

    async def _with_connection(self, do: Any) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await do(connection)
        finally:
            await connection.close()


def asks_of(view: ViewDefinition, keys: Iterable[str]) -> list[RowQuery]:
    """Every row by its key, and one that is not there."""
    return [RowQuery(view.name, key, 0, {}, 0, None) for key in (*keys, "no such key")]


async def traffic(runtime: LocalRuntime, commands: Sequence[Any]) -> None:
    """Send them all; what is refused or breaks is told so, and nothing else is."""
    for command in commands:
        try:
            await runtime.send(command)
        except (Rejected, DecisionFailed):
            assert command.how_ in ("no", "break")
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
    some = st.lists(st.one_of(*(values for _, values in made.commands)), max_size=8)
    connection = await asyncpg.connect(postgres)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    runtime = LocalRuntime(made.registry)
    assert isinstance(runtime.log, MemoryLog)
    stores = Stores(made, runtime.log, postgres)
    await traffic(runtime, data.draw(some))
    await stores.follow(partitions=1)
    restarted = LocalRuntime(made.registry, runtime.log)
    await traffic(restarted, data.draw(some))
    await stores.follow(partitions=data.draw(st.integers(1, 2)), rebuild=True)
