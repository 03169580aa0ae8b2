"""Running a process manager: handle events and timeouts, record its steps, send its commands.

Plain asyncio, on any log and any command bus. It follows the log by the types of the events that
the manager handles; a process is only read when a message concerns it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any

import msgspec

from actors.command_middleware import Bus
from actors.processes.checkpoints import Checkpoints, Layout
from actors.processes.commits import ProcessCommits
from actors.processes.delivery import command_id_of
from actors.processes.open_index import OpenIndex
from actors.processes.open_processes import OpenProcess
from actors.processes.planning import Order
from actors.processes.process_state import ProcessState
from actors.processes.records import Told
from actors.processes.timers import Timers
from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord, recorded
from rayfold import Registry
from rayfold.process import ProcessDefinition
from rayfold.runtime.lasting import lasting
from rayfold.runtime.tracing import traced_in, tracing
from rayfold.runtime.turns import Turn
from rayfold.tenants import NoTenant, within

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a broken subscription to the log is restarted."""

CHECKPOINT_INTERVAL = 1.0
IDLE_CHECKPOINT_INTERVAL = 60.0
"""Seconds between two checkpoints; the second value applies if nothing was handled."""


class ProcessRunner:
    """Runs the processes of one manager whose keys fall to `partition` of `partitions`."""

    def __init__(
        self,
        registry: Registry,
        definition: ProcessDefinition,
        log: Log,
        bus: Bus,
        *,
        partition: int = 0,
        layout: Layout,
        postgres: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`postgres` has the index of what is open; without it, all streams are read."""
        self.definition = definition
        self.position = 0
        self.error = ""
        self._read: RawRecord | None = None
        """The first event of the batch that is being handled."""
        self._read_until, self._read_at = 0, 0.0
        self._resume: int | None = None
        """The start of the batch with the first event that a process missed."""
        self._registry = registry
        self._log = log
        self._partition, self._partitions = partition, layout.partitions
        self._clock = clock
        self._timers = Timers()
        self._tracing = tracing()
        self._commits = ProcessCommits(registry, definition, log, bus, clock, self._timers)
        self._checkpoints = Checkpoints(log, definition.name, layout, partition)
        self._event_types = registry.stored_as(definition.events)
        name, prefix = definition.name, definition.prefix
        self._index = OpenIndex(log, postgres, f"process:{name}", prefix, OpenProcess)
        self._following: asyncio.Task[None] | None = None
        self._beginning_again = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load what is open, then follow the log from where it stopped before.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        self.position = await self._checkpoints.load()
        found, _ = await self._index.load()
        for key, open_process in found.items():
            if not self._owns(key):
                continue
            self._commits.open.add(key)
            self._timers.replace(key, open_process.timers)
            if open_process.error:
                self._commits.parked[key] = open_process.error
            mended = open_process.parked and not open_process.error
            if open_process.unanswered or mended or open_process.unreadable:
                self._commits.resume(key)
        self._commits.start()
        self._following = self._begin(self._follow_always())
        self._begin(lasting(self._time, "timeouts of a process manager"))
        if self._partition == 0:
            self._begin(lasting(self._index.keep, "the index of open processes"))

    async def stop(self) -> None:
        """Stop; the next start continues from there."""
        if not self._tasks:
            return  # it never began, so there is nothing to save
        for task in list(self._tasks):
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._commits.stop()
        with suppress(StoreUnavailable):
            await self._checkpoints.save(self._safe_position())

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        return {
            "process": self.definition.name,
            "partition": self._partition,
            "position": self.position,
            "lag": max(self._read_until - self.position, 0) if self._read else 0,
            "lag_seconds": round(self._lag_seconds(), 3),
            "open": len(self._commits.open),
            "timers": len(self._timers),
            "waiting": self._commits.unanswered,
            "parked": len(self._commits.parked),
            "steps": self._commits.steps,
            "error": self.error or self._commits.error,
            **({"index": self._index.error} if self._index.error else {}),
        }

    @property
    def open(self) -> frozenset[str]:
        """The keys of the processes that have not ended."""
        return frozenset(self._commits.open)

    @property
    def parked(self) -> dict[str, str]:
        """The keys of the parked processes, with the errors."""
        return dict(self._commits.parked)

    async def retry(self, key: str) -> None:
        """Retry the message on which a process is parked, then those that wait behind it.

        Raises:
            LookupError: no process with that key is parked.
            ProcessStuck: its stream cannot be read.
        """
        if key not in self._commits.parked:
            raise LookupError(f"no process {self.definition.name!r} of key {key!r} is parked")
        await self._commits.retry(key)
        # Two tasks that follow the log would each have their own position.
        async with self._beginning_again:
            if self._following is not None and self._commits.holds(key):
                # Missed events are read again; other processes ignore those that they know.
                self._following.cancel()
                await asyncio.wait([self._following])
                self.position = self._safe_position()
                self._commits.read_again(key)
                self._following = self._begin(self._follow_always())

    async def abort(self, key: str, *, as_it_is: bool = False) -> None:
        """End a process with its compensation, or without if its manager has none.

        `as_it_is` ends it without compensation in any case.

        Raises:
            LookupError: there is none that has not ended.
            ProcessStuck: its stream cannot be read, or its compensation fails.
        """
        if key not in self._commits.open | self._commits.parked.keys():
            raise LookupError(f"no process {self.definition.name!r} of key {key!r} is open")
        await self._commits.tell(key, Order.ABORT_AS_IT_IS if as_it_is else Order.ABORT)

    async def forget_personal(self) -> None:
        """See `ProcessCommits.forget_personal`."""
        await self._commits.forget_personal()

    @property
    def timers(self) -> Timers:
        """The timers of all processes."""
        return self._timers

    def in_memory(self, key: str) -> ProcessState | None:
        """Return a process if it is in memory."""
        return self._commits.in_memory(key)

    def _lag_seconds(self) -> float:
        """Return for how long the first unhandled event has been on the log, in seconds."""
        if self._read is None:
            return 0.0
        # The time since is ours, as the event store's clock may be ahead of ours.
        told = time.monotonic() - self._read_at
        recorded_at = self._read.recorded_at
        return max((self._clock() - recorded_at).total_seconds(), told) if recorded_at else told

    def describe_open(self, *, parked: bool, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return some of the processes that have not ended, parked ones first, and their number.

        With `parked`, only the parked ones. An open process has an error if its command has no
        answer.
        """
        commits, errors = self._commits, self._commits.parked
        keys = errors.keys() if parked else commits.open | errors.keys()
        told = ((key, errors.get(key) or commits.why_unanswered(key)) for key in keys)
        stuck = {key: error for key, error in told if error}
        shown = nsmallest(limit, keys, key=lambda key: (key not in errors, key not in stuck, key))
        return [
            {
                "process": self.definition.name,
                "key": key,
                "status": "parked" if key in errors else "open",
                "error": stuck.get(key),
                "next_timeout": self._timers.next_of(key),
            }
            for key in shown
        ], len(keys)

    def _owns(self, key: str) -> bool:
        return partition_of(key, self._partitions) == self._partition

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # From the log.

    async def _follow_always(self) -> None:
        while True:
            try:
                await self._follow()
            except StoreUnavailable as error:
                self.error = str(error)
            except (Exception, SystemExit) as error:
                # An event that cannot be read, or whose key is unknown, might concern any process.
                self.error = f"{type(error).__name__}: {error}"
                log.exception(
                    "a process manager cannot go on", extra={"manager": self.definition.name}
                )
            await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        subscription = self._log.subscribe(
            self._registry.prefixes, self.position or None, event_types=self._event_types
        )
        forgotten = self._commits.forgotten  # taken before a batch is decrypted
        async with aclosing(subscription) as batches:
            async for batch in batches:
                keys, turn = [], Turn()
                for raw in batch.records:
                    await turn.pass_on()
                    keys.append(self._keys_of(raw))
                if self._commits.forgotten != forgotten:
                    return  # it may hold their data: it is read again
                # Without an `await`, in which processes may open or end, and persons be forgotten.
                told = [
                    each
                    for raw, begins in zip(batch.records, keys, strict=True)
                    for each in self._told(raw, begins)
                ]
                traces = self._traces(batch.records)
                if told:
                    self._read, self._read_until = batch.records[0], batch.position
                    self._read_at = time.monotonic()
                    try:
                        await asyncio.gather(
                            *(
                                self._commits.tell(key, what, traces.get(what.position, ""))
                                for key, what in told
                            )
                        )
                    finally:
                        self._read = None
                self.error = ""
                if self._commits.holds_any and self._resume is None:
                    self._resume = self.position
                self.position = batch.position
                interval = CHECKPOINT_INTERVAL if told else IDLE_CHECKPOINT_INTERVAL
                await self._checkpoints.save_after(self._safe_position(), interval)
                forgotten = self._commits.forgotten

    def _traces(self, records: Sequence[RawRecord]) -> dict[int | None, str]:
        """Return by position the traces of events that are recorded."""
        if self._tracing is None:
            return {}
        traced = ((raw.position, traced_in([raw.metadata])) for raw in records)
        return {position: found[0] for position, found in traced if found}

    def _safe_position(self) -> int:
        if not self._commits.holds_any:
            self._resume = None
        return self.position if self._resume is None else min(self._resume, self.position)

    def _keys_of(self, raw: RawRecord) -> dict[str, bool]:
        """Return the keys of the processes that a record concerns, and whether it begins them."""
        begins: dict[str, bool] = {}
        for each in recorded(self._registry, raw):
            key = self.definition.key_of(each.event)
            if key is not None and self._registry.tenants:
                try:
                    key = within(self._registry.tenant_of(raw.stream), key)
                except NoTenant:  # from another client: no process handles it
                    continue
            if key is not None and self._owns(key):
                begins[key] = begins.get(key, False) or self.definition.begins_with(each.event)
        return begins

    def _told(self, raw: RawRecord, begins: dict[str, bool]) -> list[tuple[str, Told]]:
        # Later events of the same batch may concern a process that this one begins.
        self._commits.open |= {key for key, begin in begins.items() if begin}
        concerned = [key for key in begins if key in self._commits.open]
        if not concerned:
            return []
        metadata = Metadata(raw.metadata)
        told = Told(
            f"{raw.stream}@{raw.revision}",
            event=raw.event_type,
            version=_version_of(metadata),
            stream=raw.stream,
            revision=raw.revision,
            position=raw.position,
            data=msgspec.Raw(raw.data),
            caused_by=command_id_of(metadata),
            correlation_id=metadata.get("$correlationId", ""),
        )
        return [(key, told) for key in concerned]

    # From the clock.

    async def _time(self) -> None:
        while True:
            now, turn = self._clock(), Turn()
            for due, key, name, number in self._timers.pop_due(now):
                await turn.pass_on()
                told = Told(f"timeout:{name}:{number}", timeout=name, number=number, due=due)
                self._commits.tell(key, told)
            await self._timers.sleep(self._clock())  # this may have taken a while


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that has the process of this key."""
    return zlib.crc32(key.encode()) % partitions


def _version_of(metadata: Metadata) -> int:
    try:
        return int(metadata.get("schemaVersion", "1"))
    except ValueError:  # another client's
        return 1
