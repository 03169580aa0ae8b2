"""A domain's stack in one process, without Ray and without a disk, for its own integration tests.

async with LocalStack(Registry.load("domain")) as stack:
    await stack.send(ReceiveStock(sku="tea", quantity=2))
    assert (await stack.ask(GetStock(sku="tea"))).document["available"] == 2
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.processes.process_state import ProcessState
from actors.processes.runner import ProcessRunner
from eventstore.memory import MemoryLog
from projections.errors import Behind, NoSuchStore
from projections.memory.replica import Replica
from projections.queries.composed import compose
from projections.row_query import RowResult, row_query
from rayfold import (
    Answer,
    Command,
    ComposedQuery,
    Query,
    Receipt,
    Registry,
    SqlQuery,
    view_query_of,
)
from rayfold.tenants import NoTenant

PATIENCE = 10.0
"""Seconds after which what does not come is an error."""


class LocalStack:
    """Commands, views and process managers of a domain, over a log in memory.

    What runs is what runs in production: mailboxes, group commits, middleware of commands, folds,
    the runners of process managers. All views are in memory, whatever stores they name. Custom SQL
    projections, publications, reactors and middleware of queries are left out.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.log = MemoryLog()
        self._writes = LocalRuntime(registry, self.log)
        self._replica = Replica(registry, list(registry.views), self.log)
        self._runners: list[ProcessRunner] = []
        self._ahead = timedelta()
        self._running = AsyncExitStack()

    async def __aenter__(self) -> LocalStack:
        async with AsyncExitStack() as starting:
            starting.push_async_callback(self._writes.close)
            folding = asyncio.create_task(self._replica.run())
            starting.push_async_callback(_ended, folding)
            self._runners.clear()  # those of an earlier `async with`
            for definition in self._registry.processes.values():
                runner = ProcessRunner(
                    self._registry,
                    definition,
                    self.log,
                    self._writes.bus,
                    layout=await lay_out(self.log, definition.name, 1, self._registry.prefixes),
                    clock=self._now,
                )
                await runner.start()
                starting.push_async_callback(runner.stop)
                self._runners.append(runner)
            self._running = starting.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._running.aclose()

    async def send(self, command: Command, **about: Any) -> Receipt:
        """Return a receipt, or raise why there is none; `about` as `LocalRuntime.send` takes it."""
        return await self._writes.send(command, **about)

    async def ask(self, query: Query, *, tenant: str = "") -> Answer:
        """Return the answer, which has seen all that was written before.

        Raises:
            NoTenant: there are tenants, and none is given.
            Behind: the view has stopped at an event that it cannot fold.
            NoSuchStore: it asks a custom SQL projection.
            BadCursor, BadQuery, QueryFailed: as in production.
        """
        if self._registry.tenants and not tenant:
            raise NoTenant(f"{type(query).__rayfold__.name!r} needs a tenant, and none was given")
        if isinstance(query, SqlQuery):
            raise NoSuchStore("a custom SQL projection needs Postgres: ask a stack that has one")
        if isinstance(query, ComposedQuery):

            async def ask(part: Query) -> tuple[bytes | None, int]:
                answer = await self.ask(part, tenant=tenant)
                return answer.body, answer.position

            body, position = await compose(query, ask)
            return Answer(body, None, position)
        end = await self.log.end_position(None)
        await self._replica.progress.reached(end, PATIENCE)
        (found,) = self._replica.answer([row_query(query, end, tenant)])
        if not isinstance(found, RowResult):
            raise found
        if found.late:
            raise Behind(view_query_of(query).view.name, found.position, end)
        return Answer(found.body, found.revision, found.position)

    async def until(self, query: Query, holds: Callable[[Any], bool], *, tenant: str = "") -> Any:
        """Return the first document of a query for which that holds: what a process leads to, say.

        Raises:
            TimeoutError: it does not within ten seconds; the last document is in the message, and
                what is parked.
        """
        answer = await self.ask(query, tenant=tenant)
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(answer.document):
                    await self._replica.progress.reached(answer.position + 1, PATIENCE)
                    answer = await self.ask(query, tenant=tenant)
        except TimeoutError as error:
            told = "; ".join([f"it did not change: {answer.document}", *self._parked()])
            raise TimeoutError(told) from error
        return answer.document

    async def pass_time(self, time: timedelta) -> None:
        """Put the clock of process managers forward: what is due then is told them.

        They are first told what is on the log, and what is due already, as what they schedule
        counts from then.

        Raises:
            TimeoutError: they do not come to rest within ten seconds; why is in the message.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._at_rest():  # noqa: ASYNC110  # nothing tells of all of them
                    await asyncio.sleep(0.001)
        except TimeoutError as error:
            told = ["processes do not come to rest", *self._not_done(), *self._parked()]
            raise TimeoutError("; ".join(told)) from error
        self._ahead += time
        for runner in self._runners:
            runner.timers.wake()

    async def _at_rest(self) -> bool:
        end = await self.log.end_position(None)
        return all(each.position >= end for each in self._runners) and not self._not_done()

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def _not_done(self) -> list[str]:
        """Return which processes are sending a command, or have not been told what is due."""
        now, found = self._now(), []
        for runner in self._runners:
            of = f"process {runner.definition.name!r} of key"
            found += [
                f"{of} {key!r} has no answer to a command"
                for key in runner.open
                if _is_sending(runner.in_memory(key))
            ]
            found += [
                f"{of} {each.key!r} has not handled its timeout {each.name!r}"
                for each in runner.timers
                if each.due <= now and each.key not in runner.parked
            ]
        return found

    def _parked(self) -> list[str]:
        """Return what is parked; the log has the reasons too, but pytest does not show them."""
        processes = [
            f"process {each.definition.name!r} of key {key!r} is parked: {why}"
            for each in self._runners
            for key, why in each.parked.items()
        ]
        rows = [
            f"row {each['key']!r} of {each['view']!r} is parked: {each['reason']}"
            for each in self._replica.status().get("poison", ())
        ]
        return processes + rows


def _is_sending(process: ProcessState | None) -> bool:
    return process is not None and process.next_sending is not None


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
