"""Everything of a stack that needs neither Ray nor a server, behind its real routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import httpx

from actors.local import LocalRuntime
from actors.processes.checkpoints import Layout
from actors.processes.runner import ProcessRunner
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from api.app import create_app
from api.http.admission import Admission
from api.http.auth import Role, Token
from api.ports import Ports
from eventstore.memory import MemoryLog
from projections.errors import Behind
from projections.memory.replica import Replica
from projections.queries.bus import QueryBus
from projections.queries.history import History
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements
from rayfold import Registry
from tests.unit.api.fakes import (
    FakeAudit,
    FakeBrowser,
    FakeOperations,
    FakeProcesses,
    FakePublications,
    FakeSessions,
)
from tests.unit.tenants import ledger

REGISTRIES = {tenants: Registry([ledger], tenants=tenants) for tenants in (True, False)}

TENANTS = ("acme", "globex", "umbrella")

TOKENS = [
    *(Token(name, f"token-of-{name}", Role.WRITER, frozenset(), name) for name in TENANTS),
    Token("any", "token-of-any", Role.WRITER, frozenset(), "*"),
    Token("none", "token-of-none", Role.WRITER),
    Token("operator", "token-of-operator", Role.OPERATOR),
    Token("insider", "token-of-insider", Role.OPERATOR, frozenset(), "acme"),
]


class Rows:
    """Asks a replica in this process, as `MemoryReader` asks others."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        while True:
            [answer] = self._replica.answer([query])
            if isinstance(answer, Exception):
                raise answer
            if not answer.late:
                return answer
            left = deadline - time.monotonic()
            if not await self._replica.progress.reached(query.at_least, left):
                raise Behind(query.view, answer.position, query.at_least)


class Stack:
    """Over one log; see `running`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.log = MemoryLog()
        self.writes = LocalRuntime(registry, self.log)
        self.replica = Replica(registry, list(registry.views), self.log)
        rows: Any = Rows(self.replica)
        placements, unused = Placements(), cast("Any", None)
        queries = QueryBus(
            registry, placements, lambda view: ("memory",), {"memory": rows}, rows, unused
        )
        queries.reached = self._reached  # type: ignore[method-assign]
        self.queries = queries
        app = create_app(
            registry,
            Ports(
                commands=self.writes.bus,
                queries=queries,
                histories=History(registry, self.log),
                operations=FakeOperations(),
                processes=FakeProcesses(),
                schedules=Schedules(self.log),
                publications=FakePublications(),
                outcomes=self,
                browser=FakeBrowser(),
                audit=FakeAudit(),
                sessions=FakeSessions(),
            ),
            Admission(tokens=TOKENS),
        )
        self.access = app.access
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]
            base_url="http://127.0.0.1:8000",
        )

    async def _reached(self, views: Sequence[str], position: int, timeout: float) -> list[str]:
        there = await self.replica.progress.reached(position, timeout)
        return [] if there else list(views)

    async def outcome(self, command_id: str) -> None:
        """No writer remembers anything: what the gateway knows is what counts here."""

    async def ask(self, caller: str, method: str, path: str, **how: Any) -> httpx.Response:
        """Ask as somebody, of views that show what was written before."""
        headers = {
            "authorization": f"Bearer token-of-{caller}",
            "consistency-token": str(await self.log.end_position(None)),
            **how.pop("headers", {}),
        }
        return await self.http.request(method, path, headers=headers, **how)

    @asynccontextmanager
    async def with_processes(self) -> AsyncIterator[list[ProcessRunner]]:
        """Let process managers work, and the clock of scheduled commands."""
        log, bus, layout = self.log, self.writes.bus, Layout(0, 1, 0)
        runners = [
            ProcessRunner(self.registry, each, log, bus, layout=layout)
            for each in self.registry.processes.values()
        ]
        schedules = ScheduleRunner(self.registry, log, bus)
        for each in (*runners, schedules):
            await each.start()
        try:
            yield runners
        finally:
            for each in (*runners, schedules):
                await each.stop()


@asynccontextmanager
async def running(
    *, tenants: bool = True, registry: Registry | None = None
) -> AsyncIterator[Stack]:
    """A stack of its own; of the ledger, unless it is given another domain."""
    stack = Stack(registry or REGISTRIES[tenants])
    folding = asyncio.create_task(stack.replica.run())
    try:
        async with stack.http:
            yield stack
    finally:
        folding.cancel()
        with suppress(asyncio.CancelledError):
            await folding
