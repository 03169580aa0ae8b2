"""One partition of a process manager in a process of its own: the Ray shell around its runner."""

from __future__ import annotations

import asyncio
import logging
from heapq import nsmallest
from typing import Any

from actors.errors import NoSuchProcess, Unavailable
from actors.processes.checkpoints import Layout
from actors.processes.reaching import Reach
from actors.processes.runner import ProcessRunner
from actors.write_settings import WriteSettings
from eventstore.errors import StoreUnavailable
from eventstore.identity import store_id
from eventstore.personal.opening import open_log
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.node_domain import check_middleware, load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status
from rayfold.runtime.rpc import Address

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until it tries to begin again."""

STARTING = 10.0
"""Seconds that a request waits for it to begin."""


class ProcessActor:
    """Runs as a Ray actor. After a restart it resumes from its checkpoint and its streams."""

    def __init__(
        self,
        name: str,
        partition: int,
        layout: tuple[int, int, int],
        reached: WriteSettings,
        postgres: str,
    ) -> None:
        """`reached` gives the domain, the store, and access to the writers of aggregates."""
        begin_part(f"process:{name}#{partition}")
        collect_rarely()
        self._name = name
        self._partition = partition
        self._layout = Layout(*layout)
        self._registry = load_domain(reached.domain, reached.identity.tenants)
        reached.identity.check_domain(self._registry)
        check_middleware(self._registry)
        self._reached = reached
        self._log = open_log(reached.eventstore, self._registry, postgres)
        self._postgres = postgres
        self._reach: Reach | None = None
        self._runner: ProcessRunner | None = None
        self._starting: asyncio.Task[None] | None = None
        self._error = ""

    async def ask_at(self, address: tuple[str, int, bytes]) -> None:
        """Ask the stack's owner at this address for routes of commands from now on."""
        self._running()
        assert self._reach is not None
        self._reach.ask_at(Address(*address))

    async def status(self) -> dict[str, Any]:
        """Return counts and process data, for operators."""
        status = self._running().status()
        error = self._error or status.pop("error")
        return {
            **process_status(),
            **status,
            **({"error": error} if error else {}),
            "ready": self._has_begun and not error,
        }

    async def open(self, parked: bool, limit: int) -> tuple[list[dict[str, Any]], int]:
        """See `ProcessRunner.describe_open`."""
        return (await self._begun()).describe_open(parked=parked, limit=limit)

    async def timeouts(self, limit: int) -> tuple[list[tuple[Any, str, str]], int]:
        """Return the timeouts that are due next, and their number."""
        timers = (await self._begun()).timers
        return [(due, key, name) for due, key, name, _ in nsmallest(limit, timers)], len(timers)

    async def retry(self, key: str) -> None:
        """See `ProcessRunner.retry`; raises `NoSuchProcess` if it is not parked."""
        try:
            await (await self._begun()).retry(key)
        except LookupError as error:
            raise NoSuchProcess(self._name, key, "parked") from error

    async def abort(self, key: str, as_it_is: bool) -> None:
        """See `ProcessRunner.abort`; raises `NoSuchProcess` if it is not open."""
        try:
            await (await self._begun()).abort(key, as_it_is=as_it_is)
        except LookupError as error:
            raise NoSuchProcess(self._name, key, "open") from error

    async def forget_personal(self) -> None:
        """See `ProcessCommits.forget_personal`; before it has begun, nothing is in memory."""
        runner = self._running()
        if self._has_begun:
            await runner.forget_personal()

    async def stop(self) -> None:
        """Stop, after saving a checkpoint."""
        runner = self._running()
        if self._starting is not None:
            self._starting.cancel()
        if self._has_begun:
            await runner.stop()
        if self._reach is not None:
            await self._reach.stop()
        await self._log.close()
        await end_part()

    @property
    def _has_begun(self) -> bool:
        return self._starting is not None and self._starting.done() and not self._error

    async def _begun(self) -> ProcessRunner:
        """Return the runner once it knows what is open: earlier, it would report that nothing is.

        Raises:
            Unavailable: it does not know yet.
        """
        runner = self._running()
        if not self._has_begun:
            assert self._starting is not None
            await asyncio.wait([self._starting], timeout=STARTING)
        if not self._has_begun:
            raise Unavailable(f"{self._name}#{self._partition} starts: {self._error or 'wait'}")
        return runner

    def _running(self) -> ProcessRunner:
        # Not in `__init__`, which Ray runs outside the event loop that the client must belong to.
        if self._runner is None:
            self._reach = Reach(self._registry, self._reached)
            self._reach.start()
            self._runner = ProcessRunner(
                self._registry,
                self._registry.processes[self._name],
                self._log,
                self._reach.bus,
                partition=self._partition,
                layout=self._layout,
                postgres=self._postgres,
            )
            self._starting = asyncio.create_task(self._start(self._runner))
        return self._runner

    async def _start(self, runner: ProcessRunner) -> None:
        while True:
            try:
                self._reached.identity.check_store(await store_id(self._log))
                await runner.start()
            except StoreUnavailable as error:
                self._error = str(error)
            except Exception as error:  # reported by `status`
                self._error = f"{type(error).__name__}: {error}"
                log.exception("a process manager does not start", extra={"manager": self._name})
            else:
                self._error = ""
                return
            await asyncio.sleep(RETRY)
