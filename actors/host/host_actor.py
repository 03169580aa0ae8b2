"""A host in a process of its own: the Ray shell around `Host`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import psutil
import ray

from actors.envelope import Done, Envelope, Outcome
from actors.errors import StaleTable, Unavailable
from actors.host.assignment import Assignment, Term
from actors.host.limits import HostLimits
from actors.host.recent_outcomes import RecentOutcomes
from actors.host.shard import shard_of
from actors.host.state.postgres import PostgresStates
from actors.host.usage import Usage
from actors.host.writers import Writers
from actors.write_settings import made_with
from eventstore.errors import StoreUnavailable
from eventstore.identity import store_id
from eventstore.personal.opening import open_log
from rayfold import NotFound, Refused, Rejected
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.lasting import lasting
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status
from rayfold.runtime.rpc import Address, Part, RpcServer

log = logging.getLogger(__name__)

SWEEP_INTERVAL = 5.0
"""Seconds between two checks for aggregates that can be evicted."""


PROMPT = 0.005
"""Seconds after which known outcomes are sent without waiting for the others of the batch."""

LATE = 0.1
"""Seconds after which the next batch stops waiting for one that has no outcome yet."""

HOT = 2000
"""Aggregates that a host of a new release folds in advance."""


class HostActor:
    """A Ray actor with `num_cpus=0` that Ray restarts when it dies: see `WriteSide`.

    A restarted actor has an empty cache and folds aggregates from the log on demand.
    """

    def __init__(
        self,
        name: str,
        domain: str,
        eventstore: str,
        limits: HostLimits,
        identity: Identity,
        postgres: str = "",
        *,
        sharded: bool,
    ) -> None:
        """`sharded`: it serves shards of the table; otherwise it serves a single aggregate.

        `postgres` is a DSN, needed for state-stored aggregates and for personal data.
        """
        self._incarnation = f"{name}:{uuid4().hex[:12]}"
        self._registry = load_domain(domain, identity.tenants)
        self._log = open_log(eventstore, self._registry, postgres)
        identity.check_domain(self._registry)
        self._identity = identity
        self._assignment = Assignment(sharded=sharded)
        self._usage = Usage(time.monotonic())
        self._checked = False
        self._limits = limits
        self._postgres = postgres
        self._made_with = made_with(eventstore, postgres)
        begin_part(name.partition(":")[2] or name)  # without the stack's name
        collect_rarely()
        self._host: Writers | None = None
        self._outcomes = RecentOutcomes()
        self._rpc = RpcServer(self._commands, self._commands)
        self._sweeper: asyncio.Task[None] | None = None

    async def address(self) -> Address:
        """Return the address that takes commands: batches in, one outcome per command out."""
        await self._check_store()
        return await self._rpc.address(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    async def _commands(
        self,
        request: tuple[Term, dict[int, int] | None, list[tuple[Any, ...]], dict[str, int]],
        part: Part | None = None,
    ) -> list[Any] | None:
        """Return an outcome for each command; None if the caller must send its table first.

        `part` is called with outcomes that are ready before the rest, by their places in the batch.
        """
        term, shards, wired, written = request
        host, now = self._running(), time.monotonic()
        assignment = self._assignment
        if term != assignment.term:
            if shards is not None:
                if gained := assignment.learn(term, shards):
                    host.forget_streams(lambda stream: shard_of(stream) in gained)
            elif assignment.unknown(term):
                return None
        for stream, revision in written.items():
            host.catch_up(stream, revision)
        envelopes = [Envelope.from_wire(each, now) for each in wired]
        if not envelopes:
            return []
        self._usage.used(now, len(envelopes))
        if term < assignment.term:
            return await self._for_a_stale_caller(term, envelopes)
        return [portable(outcome) for outcome in await self._handled(envelopes, part)]

    async def _handled(
        self, envelopes: list[Envelope], part: Part | None = None
    ) -> Sequence[Outcome]:
        noted = self._outcomes.begin(envelopes)
        noted.coming = coming = self._running().begin(envelopes)
        if part is not None:
            await _told_as_they_come(coming, part)
        outcomes = [await outcome for outcome in coming]
        noted.end(outcomes)
        return outcomes

    async def _for_a_stale_caller(self, term: Term, envelopes: list[Envelope]) -> list[Any]:
        refused = [self._assignment.refuses(term, each.stream) for each in envelopes]
        taken = [each for each, no in zip(envelopes, refused, strict=True) if not no]
        outcomes = iter(await self._handled(taken)) if taken else iter(())
        stale = StaleTable(self._assignment.term)
        return [stale if no else portable(next(outcomes)) for no in refused]

    async def status(self) -> dict[str, Any]:
        """Return counts and process data, for operators.

        `idle` and `steadily` are in seconds: see `Usage`.
        """
        await self._check_store()
        now = time.monotonic()
        return {
            "incarnation": self._incarnation,
            "domain": self._identity.domain,
            "made_with": self._made_with,
            **process_status(),
            "idle": 0.0 if self._running().busy else self._usage.idle(now),
            "steadily": self._usage.steadily,
            "per_second": self._usage.per_second(now),
            **self._running().status(),
        }

    async def outcome(self, command_id: str) -> tuple[str, Any] | None:
        """Return the stream and outcome of a command; see `RecentOutcomes.of`."""
        found = self._outcomes.of(command_id)
        return found and (found[0], portable(found[1]))

    async def delete_stream(self, stream: str, tombstone: bool) -> bool:
        """Delete a stream that this host writes; see `Host.delete`."""
        return await self._running().delete(stream, tombstone=tombstone)

    async def forget(self, stream: str) -> None:
        """Discard a stream's cached state before its next command; see `Host.forget`."""
        await self._running().forget(stream)

    async def forget_personal(self, subjects: list[str]) -> None:
        """Discard the cached state of every aggregate that may hold data of these persons."""
        known, of = self._registry.may_know, frozenset(subjects)
        await self._running().forget_known(lambda stream: known(stream, of))

    async def refill(self, stream: str) -> None:
        """Rewrite the row of a state-stored aggregate; see `Writers.refill`."""
        await self._running().refill(stream)

    async def hot(self) -> list[str]:
        """Return the most recently used streams in memory."""
        return self._running().hot(HOT)

    async def warm(self, streams: list[str]) -> None:
        """Start folding streams before any command needs them."""
        self._running().warm(streams)

    async def retire(self, idle: float) -> bool:
        """Drain and return True, unless a command is in progress or came within `idle` seconds."""
        if self._running().busy or self._usage.idle(time.monotonic()) < idle:
            return False
        await self.drain()
        return True

    async def drain(self) -> None:
        """Wait until all accepted commands are answered and snapshots are taken; then close."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._running().drain()
        await self._rpc.close()
        await self._log.close()
        await end_part()

    async def _check_store(self) -> None:
        """Refuse to work on a log that is not the stack's."""
        if not self._checked and self._identity.store:
            try:
                self._identity.check_store(await store_id(self._log))
            except StoreUnavailable:  # the next call will detect it
                return
        self._checked = True

    def _running(self) -> Writers:
        # Not in `__init__`, which Ray runs outside the event loop that the client must belong to.
        if self._host is None:
            states = PostgresStates(self._postgres, self._registry.state_stored)
            self._host = Writers(self._registry, self._log, self._incarnation, self._limits, states)
            sweep = partial(self._sweep, self._host)
            self._sweeper = asyncio.create_task(lasting(sweep, "passivation"))
        return self._host

    async def _sweep(self, host: Writers) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            await host.passivate(psutil.Process().memory_info().rss)
            try:
                await host.take_over()
            except (StoreUnavailable, Unavailable) as error:
                log.info(
                    "outboxes of ended writers cannot be taken over", extra={"error": str(error)}
                )
            except Exception:
                log.exception("taking over an outbox failed")


async def _told_as_they_come(coming: Sequence[asyncio.Future[Outcome]], part: Part) -> None:
    """Wait for all outcomes; if some take longer, send the others first.

    One command may have to wait for a fold, a conflict, or Postgres. The rest of its batch does not
    wait for it, nor does the next batch, which is sent after the first part, even an empty one.
    """
    left = {outcome: at for at, outcome in enumerate(coming)}
    told = False
    while True:
        done, late = await asyncio.wait(left, timeout=PROMPT)
        if not late:
            return
        if not done:
            patience = None if told else LATE
            first, _ = await asyncio.wait(
                left, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
        if done or not first:
            part([(left.pop(each), portable(each.result())) for each in done])
            told = True


def portable(outcome: Outcome | None) -> Any:
    """Return the outcome in a form that can be sent, whatever a domain adds to `Rejected`."""
    if isinstance(outcome, Done):
        # A plain tuple is serialized fastest.
        return outcome[:2] if outcome.revisions is None else tuple(outcome)
    if isinstance(outcome, NotFound):
        return NotFound(outcome.rule, outcome.detail)
    if isinstance(outcome, Refused):
        return Rejected(outcome.rule, outcome.detail)
    return outcome
