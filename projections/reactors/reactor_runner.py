"""A consumer of a reactor: takes events from its group, runs handlers, acknowledges.

A failed event is sent back after a pause, doubled each time; one that failed too often is parked,
without holding up others. If Postgres or the store is away, the consumer leaves the group: the
server gives its events to others, or to it when it is back. Results that could not be recorded are
recorded then, before new events are taken, so that they do not look like a death of the process;
so are those that it leaves when it is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.persistent_subscriptions import (
    Deliveries,
    Delivery,
    PersistentSubscriptions,
)
from eventstore.one_record import record_at
from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from projections.errors import PostgresUnavailable, UnknownTarget, named
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import Parked, in_status
from projections.postgres.connections import connected, pooled
from projections.reactors.attempts import BEGUN, DONE, FAILED, PARKED, Attempts, Begun, key_of
from rayfold import Attempt, Reactor, ReactorDefinition, Registry
from rayfold.place_of_error import place_of
from rayfold.runtime.postgres import BY_INDEX
from rayfold.runtime.tracing import tracing

if TYPE_CHECKING:
    import asyncpg

    from projections.postgres.generations import Connection

    Pool = asyncpg.Pool[asyncpg.Record]

log = logging.getLogger(__name__)

IN_HAND = 32
"""Events of one consumer that are in progress at a time."""

LONGEST_PAUSE = 20.0
"""The longest pause before an event is sent back, in seconds; the first is a fraction of a
second.
"""

FIRST_PAUSE = 0.2

TIDY = 5.0
"""Seconds between two deletions of entries that are no longer needed."""

LEAVING = 2.0
"""Seconds in which a consumer that is told to stop records what it leaves: less than the whole
actor has, see `projections.supervision.actor_work`.
"""

OPEN_AGAIN = 5.0
"""Seconds until a reactor whose `open` failed is opened again."""


def message_timeout(definition: ReactorDefinition) -> float:
    """Return the seconds that a consumer has for an event before another gets it."""
    return definition.timeout + LONGEST_PAUSE + 10.0


class _InHand(NamedTuple):
    raw: RawRecord
    since: float
    """When it was delivered to us, by the monotonic clock."""
    again: bool = False
    """Whether an attempt has failed before."""


class ReactorRunner:
    """One of the consumers that share a reactor's events."""

    def __init__(
        self,
        registry: Registry,
        definition: ReactorDefinition,
        log: Log,
        groups: PersistentSubscriptions,
        group: str,
        began: int,
        dsn: str,
    ) -> None:
        """Join `group`, which begins with the event at `began`, which itself is not handled."""
        self._began = began
        self._registry = registry
        self._definition = definition
        self._log = log
        self._groups = groups
        self._group = group
        self._attempts = Attempts(definition.name)
        self._reactor: Reactor | None = None
        self._dsn = dsn
        self._pool: Pool | None = None
        self._prefixes = tuple(registry.prefixes)
        self._in_hand: dict[tuple[str, int], _InHand] = {}
        self._unnoted: dict[tuple[str, int], tuple[RawRecord, Begun, str, str]] = {}
        """How attempts ended, until that is recorded; `BEGUN` are those that have not ended."""
        self._parked = 0
        self._first_parked: list[Parked] = []
        self._open_error = ""
        self._tracing = tracing()
        # Acknowledged events are never delivered again, so records must be on disk.
        settings = {"application_name": "rayfold", **BY_INDEX}
        self._runner = pooled(dsn, max_size=4, server_settings=settings)

    async def run(self) -> None:
        """Consume forever; after an error, try again."""
        self._reactor = await self._opened()
        try:
            await self._runner.run(self._join)
        finally:
            await self._leave(self._reactor)

    async def _leave(self, reactor: Reactor) -> None:
        if self._unnoted:
            with suppress(PostgresUnavailable, TimeoutError):  # then it looks like a death
                async with asyncio.timeout(LEAVING), connected(self._dsn) as connection:
                    await self._note_ends(connection)
        with suppress(Exception):  # the domain's code may fail, and we are leaving
            await reactor.close()

    async def _opened(self) -> Reactor:
        while True:
            try:
                reactor = self._definition.model()
                await reactor.open()
            except (Exception, SystemExit) as error:  # the author's code
                self._open_error = f"open: {named(error)}"
                log.exception("a reactor failed to open", extra=self._about())
                await asyncio.sleep(OPEN_AGAIN)
            else:
                self._open_error = ""
                return reactor

    async def _note_ends(self, connected: Pool | Connection) -> None:
        for place, (raw, begun, state, reason) in list(self._unnoted.items()):
            if await self._attempts.end_late(connected, raw, begun.number, state, reason):
                self._tell(raw, begun, state, reason)
            del self._unnoted[place]

    async def _join(self, pool: Pool) -> None:
        await self._note_ends(pool)
        async with self._groups.join(self._group, IN_HAND) as deliveries:
            self._pool = pool
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._tidy(pool))
                    self._runner.error = None
                    self._runner.ready.set()
                    while True:
                        for delivery in await deliveries.take():
                            tasks.create_task(self._react(pool, deliveries, delivery))
            except ExceptionGroup as errors:  # what is raised in `except*` is in a group again
                raise _first(errors) from errors
            finally:
                self._runner.ready.clear()
                self._pool = None

    async def _react(self, pool: Pool, deliveries: Deliveries, delivery: Delivery) -> None:
        raw = delivery.raw
        # A group includes the event where it begins; another client's event may have the same type.
        if raw.position <= self._began or not raw.stream.startswith(self._prefixes):
            await deliveries.ack([delivery])
            return
        place = raw.stream, raw.revision
        self._in_hand[place] = given = _InHand(raw, time.monotonic())
        try:
            begun = await self._attempts.begin(pool, raw)
            if begun is not None:
                self._in_hand[place] = given._replace(again=begun.number > 1)
                self._unnoted[place] = raw, begun, BEGUN, ""
                if begun.interrupted and begun.number > self._definition.attempts:
                    state, reason = PARKED, "its process died at every attempt"
                else:
                    state, reason = await self._attempt(raw, begun)
                self._unnoted[place] = raw, begun, state, reason
                await self._attempts.end(pool, raw, state, reason)
                self._unnoted.pop(place, None)
                self._tell(raw, begun, state, reason)
                if state == FAILED:
                    pause = min(FIRST_PAUSE * 2 ** (begun.number - 1), LONGEST_PAUSE)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    await deliveries.retry(delivery)
                    return
            await deliveries.ack([delivery])
        finally:
            self._in_hand.pop(place, None)

    async def _attempt(self, raw: RawRecord, begun: Begun) -> tuple[str, str]:
        """Run the handlers of an event; return the resulting state, and the reason."""
        definition = self._definition
        try:
            async with asyncio.timeout(definition.timeout):
                await self._run_traced(raw, begun)
        except TimeoutError as error:
            state, reason = FAILED, f"no end in {definition.timeout:g} s: {named(error)}"
        except (Exception, SystemExit) as error:  # the domain's code, or its data
            state, reason = FAILED, named(error) + place_of(error)
        else:
            state, reason = DONE, ""
        if state == FAILED and begun.number >= definition.attempts:
            state = PARKED
        return state, reason

    def _tell(self, raw: RawRecord, begun: Begun, state: str, reason: str) -> None:
        """Log an attempt that failed, for operators."""
        if state in (FAILED, PARKED):
            parked = state == PARKED
            log.log(
                logging.ERROR if parked else logging.WARNING,
                "an event is parked" if parked else "an event is tried again",
                extra={
                    **self._about(),
                    "stream": raw.stream,
                    "revision": raw.revision,
                    "attempt": begun.number,
                    "error": reason,
                },
            )
        elif state == DONE:
            self._runner.events += 1

    async def _run_traced(self, raw: RawRecord, begun: Begun) -> None:
        span = None
        if self._tracing is not None:
            name = self._definition.name
            about = {"rayfold.reactor": name, "rayfold.attempt": begun.number}
            span = self._tracing.of_batch(f"react {name}", [raw.metadata], about)
        if span is None:
            await self._run(raw, begun)
            return
        span.enter()  # for what the handler logs
        try:
            await self._run(raw, begun)
        except BaseException as error:
            span.end(error)
            raise
        span.end()

    async def _run(self, raw: RawRecord, begun: Begun) -> None:
        for index, each in enumerate(recorded(self._registry, raw)):
            handler = self._definition.handlers.get(type(each.event))
            if handler is None:
                continue
            attempt = Attempt(
                self._definition.attempt_id(raw.stream, raw.revision, index),
                begun.number,
                begun.interrupted,
                raw.stream,
                raw.revision,
                raw.position,
                raw.recorded_at,
                self._registry.tenant_of(raw.stream),
            )
            await handler(self._reactor, each.event, attempt)

    async def _tidy(self, pool: Pool) -> None:
        while True:
            position = await self._groups.position(self._group)
            self._runner.progress.advance(position)
            if position:
                await self._attempts.forget(pool, position)
            self._parked, self._first_parked = await self._attempts.first_parked(pool)
            await asyncio.sleep(TIDY)

    # For operators.

    async def parked(self, asked: Asked = EVERYTHING) -> list[Parked]:
        """See `Attempts.parked`; of all consumers."""
        return await self._attempts.parked(self._connected(), asked)

    async def replay(self, key: str) -> bool:
        """Try a parked event again; return False if it failed again, and stays parked.

        Raises:
            UnknownTarget: no event is parked under that key, or it is being tried again.
            StoreUnavailable, PostgresUnavailable, asyncpg.PostgresError: the outcome is unknown.
        """
        pool = self._connected()
        async with self._alone(key):
            raw = await self._record(await self._find(key))
            begun = await self._attempts.begin(pool, raw, again=True)
            if begun is None:
                raise UnknownTarget(f"nothing is parked in {self._definition.name!r} under {key!r}")
            # This is a single attempt, however often the event was tried before.
            last = begun._replace(number=max(begun.number, self._definition.attempts))
            state, reason = await self._attempt(raw, last)
            await self._attempts.end(pool, raw, state, reason)
            self._tell(raw, last, state, reason)
            return state == DONE

    async def discard(self, key: str) -> None:
        """Discard a parked event.

        Raises:
            UnknownTarget: no event is parked under that key, or it is being tried again.
        """
        async with self._alone(key):  # otherwise the end of an attempt could overwrite this
            parked = await self._find(key)
            raw = RawRecord("", b"", b"", parked.stream, parked.revision, parked.position, 0)
            log.warning("an event is discarded", extra={**self._about(), "key": key})
            await self._attempts.end(self._connected(), raw, DONE, "discarded")

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        async with self._attempts.alone(self._dsn, key) as alone:
            if not alone:
                raise UnknownTarget(f"{key!r} is being tried again in {self._definition.name!r}")
            yield

    async def _find(self, key: str) -> Parked:
        found = await self._attempts.find_parked(self._connected(), key)
        if found is None:
            raise UnknownTarget(f"nothing is parked in {self._definition.name!r} under {key!r}")
        return found

    async def _record(self, parked: Parked) -> RawRecord:
        raw = await record_at(self._log, parked.stream, parked.revision)
        if raw is not None:
            return raw
        gone = key_of(parked.stream, parked.revision)
        raise UnknownTarget(f"the log has no event {gone} any more: discard it")

    def _connected(self) -> Pool:
        if self._pool is None:
            raise StoreUnavailable("the reactor is not connected yet")
        return self._pool

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        status = self._runner.status(
            [self._definition.name],
            **self._behind(),
            parked=self._parked,
            **in_status(self._first_parked),
        )
        if self._open_error:
            status |= {"error": self._open_error, "ready": False}
        return status

    def _behind(self) -> dict[str, Any]:
        """Return how many delivered events it has not completed, and since when.

        The server delivers more while there is room, so no other event has waited longer than the
        oldest of these; its numbers of a group count events of other types too.
        """
        now, monotonic = time.time(), time.monotonic()
        ages, held = [0.0], [0.0]
        for each in self._in_hand.values():
            given = monotonic - each.since
            age = now - each.raw.created / 1e7 if each.raw.created else 0.0
            ages.append(max(age, given))  # the event store's clock may be ahead of ours
            held.append(ages[-1] if each.again else given)
        return {
            "behind": len(self._in_hand),
            "behind_seconds": round(max(ages), 3),
            "held_seconds": round(max(held), 3),
        }

    def _about(self) -> dict[str, str]:
        return {"reactor": self._definition.name}


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first error: the others were cancelled because of it."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
