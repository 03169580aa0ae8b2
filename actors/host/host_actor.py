"""A host in a process of its own: the Ray shell around `Host`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any
from uuid import uuid4

import psutil
import ray

from actors.envelope import Done, Envelope, Outcome
from actors.host.host import Host, HostLimits
from actors.host.recent_outcomes import RecentOutcomes
from actors.host.shard import shard_of
from eventstore.kurrentdb.log import EventLog
from rayfold import NotFound, Refused, Rejected
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.log_format import log_to_stderr
from rayfold.runtime.node import node_name
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.rpc import Address, RpcServer

SWEEP_INTERVAL = 5.0
"""Seconds between two looks for aggregates that may leave memory."""


class HostActor:
    """A Ray actor of `num_cpus=0` that restarts by itself: see `WriteSide`.

    A restarted one is empty and folds from the log what it is asked for.
    """

    def __init__(self, name: str, domain: str, eventstore: str, limits: HostLimits) -> None:
        self._name = name
        self._incarnation = f"{name}:{uuid4().hex[:12]}"
        self._store = EventLog(eventstore)
        self._registry = load_domain(domain)
        self._limits = limits
        collect_rarely()
        log_to_stderr()
        self._host: Host | None = None
        self._outcomes = RecentOutcomes()
        self._rpc = RpcServer(self._commands)
        self._sweeper: asyncio.Task[None] | None = None

    async def address(self) -> Address:
        """Return where commands are taken: in batches, an outcome for each."""
        return await self._rpc.address(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    async def _commands(self, request: tuple[tuple[int, ...], list[tuple[Any, ...]]]) -> list[Any]:
        gained, envelopes = request
        host, now = self._running(), time.monotonic()
        if gained:
            host.forget_streams(lambda stream: shard_of(stream) in gained)
        batch = [Envelope.from_wire(e, now) for e in envelopes]
        noted = self._outcomes.begin(batch)
        noted.outcomes = outcomes = await host.handle(batch)
        return [portable(outcome) for outcome in outcomes]

    async def status(self) -> dict[str, Any]:
        """Return counts and the process, for operators."""
        process = psutil.Process()
        return {
            "incarnation": self._incarnation,
            "pid": os.getpid(),
            "node": node_name(),
            "memory_bytes": process.memory_info().rss,
            **self._running().status(),
        }

    async def outcome(self, command_id: str) -> tuple[str, Any] | None:
        """Return what became of a command; see `RecentOutcomes.of`."""
        found = self._outcomes.of(command_id)
        return found and (found[0], portable(found[1]))

    async def delete_stream(self, stream: str, tombstone: bool) -> None:
        """Delete a stream of which this host is the writer; see `Host.delete`."""
        await self._running().delete(stream, tombstone=tombstone)

    async def forget(self, stream: str) -> None:
        """Fold a stream again before the next command; see `Host.forget`."""
        self._running().forget(stream)

    async def drain(self) -> None:
        """Wait until everything accepted has its answer and snapshots are taken; then close."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._running().drain()
        await self._rpc.close()
        await self._store.close()

    def _running(self) -> Host:
        # Not in `__init__`: Ray runs that outside of the loop that the client must live on.
        if self._host is None:
            self._host = Host(self._registry, self._store, self._incarnation, self._limits)
            self._sweeper = asyncio.create_task(self._sweep(self._host))
        return self._host

    async def _sweep(self, host: Host) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            await host.passivate(psutil.Process().memory_info().rss)


def portable(outcome: Outcome | None) -> Any:
    """Return the outcome as it travels: readable whatever a domain makes of `Rejected`."""
    if isinstance(outcome, Done):
        # A plain one is dumped fastest.
        return outcome[:2] if outcome.revisions is None else tuple(outcome)
    if isinstance(outcome, NotFound):
        return NotFound(outcome.rule, outcome.detail)
    if isinstance(outcome, Refused):
        return Rejected(outcome.rule, outcome.detail)
    return outcome
