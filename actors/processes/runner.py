"""A process manager at work: told events and timeouts; its steps recorded, its commands sent.

Plain asyncio, on any log and any command bus. It follows the log by the types of the events that
the manager sees; where nobody asks for a process, nothing of it is read.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import zlib
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.command_bus import CommandBus
from actors.processes.checkpoints import Checkpoints
from actors.processes.commits import ProcessCommits
from actors.processes.delivery import command_id_of
from actors.processes.open_processes import read_open
from actors.processes.planning import ABORT_ORDER, RETRY_ORDER
from actors.processes.process_state import ProcessState
from actors.processes.records import Told
from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord, recorded
from rayfold import Registry
from rayfold.process import ProcessDefinition
from rayfold.process_instance import Timer

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until the log is followed again."""

CHECKPOINT_INTERVAL = 1.0
IDLE_CHECKPOINT_INTERVAL = 60.0
"""Seconds between two checkpoints; the second where nothing was told."""


class ProcessRunner:
    """Runs the processes of one manager whose keys fall to `partition` of `partitions`."""

    def __init__(
        self,
        registry: Registry,
        definition: ProcessDefinition,
        store: Log,
        bus: CommandBus,
        *,
        partition: int = 0,
        partitions: int = 1,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.definition = definition
        self.position = 0
        self.error = ""
        self._registry = registry
        self._store = store
        self._partition, self._partitions = partition, partitions
        self._clock = clock
        self._commits = ProcessCommits(registry, definition, store, bus, clock, self._scheduled)
        self._checkpoints = Checkpoints(store, definition.name, partition, partitions)
        self._event_types = registry.stored_as(definition.events)
        self._timers: list[tuple[datetime, str, str, int]] = []
        self._timers_moved = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Learn what is open, then follow the log from where it was left.

        The first time that a process manager runs, it begins with what happens from then on.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        self.position = await self._checkpoints.load(self._registry.prefixes)
        async for key, open_process in read_open(self._store, self.definition.prefix):
            if not self._owns(key):
                continue
            self._commits.open.add(key)
            for name, (number, due) in open_process.timers.items():
                heapq.heappush(self._timers, (due, key, name, number))
            if open_process.error:
                self._commits.parked[key] = open_process.error
            if open_process.unanswered or (open_process.parked and not open_process.error):
                self._commits.resume(key)
        self._checkpoints.saved(self.position)
        self._commits.start()
        for work in (self._follow_always(), self._time()):
            self._begin(work)

    async def stop(self) -> None:
        """Stop where it is; whoever starts next goes on from there."""
        if not self._tasks:
            return  # it never began: a checkpoint of where it is now would be of nothing
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
            "open": len(self._commits.open),
            "timers": len(self._timers),
            "parked": len(self._commits.parked),
            "steps": self._commits.steps,
            "error": self.error or self._commits.error,
        }

    @property
    def open(self) -> frozenset[str]:
        """The keys of the processes to which something may still happen."""
        return frozenset(self._commits.open)

    @property
    def parked(self) -> dict[str, str]:
        """The keys of the parked processes, with the errors."""
        return dict(self._commits.parked)

    async def retry(self, key: str) -> None:
        """Tell a parked process again what it broke on, and then what waits behind.

        Raises:
            LookupError: no such process is parked.
        """
        if key not in self._commits.parked:
            raise LookupError(f"no process {self.definition.name!r} of key {key!r} is parked")
        await self._commits.tell(key, RETRY_ORDER)

    async def abort(self, key: str) -> None:
        """End a process: nothing is told to it any more, what is not sent yet never is.

        Raises:
            LookupError: there is none that has not ended.
        """
        if key not in self._commits.open:
            raise LookupError(f"no process {self.definition.name!r} of key {key!r} is open")
        await self._commits.tell(key, ABORT_ORDER)

    def timers(self) -> list[tuple[datetime, str, str]]:
        """Return the timeouts that processes wait for: when, whose, and which."""
        latest: dict[tuple[str, str], tuple[int, datetime]] = {}
        for due, key, name, number in self._timers:
            if key in self._commits.open and number > latest.get((key, name), (0,))[0]:
                latest[key, name] = (number, due)
        return [(due, key, name) for (key, name), (_, due) in latest.items()]

    def in_memory(self, key: str) -> ProcessState | None:
        """Return a process as it is in memory, if it is."""
        return self._commits.in_memory(key)

    def look_at_the_clock(self) -> None:
        """Look again which timers are due: the clock was moved."""
        self._timers_moved.set()

    def _scheduled(self, key: str, timer: Timer) -> None:
        heapq.heappush(self._timers, (timer.due, key, timer.name, timer.number))
        self._timers_moved.set()

    def _owns(self, key: str) -> bool:
        return zlib.crc32(key.encode()) % self._partitions == self._partition

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # From the log.

    async def _follow_always(self) -> None:
        while True:
            try:
                await self._follow()
            except StoreUnavailable as error:
                self.error = str(error)
            except Exception as error:
                # An event that nobody can read, or whose key cannot be told: it might be anybody's.
                self.error = f"{type(error).__name__}: {error}"
                log.exception(
                    "a process manager cannot go on", extra={"manager": self.definition.name}
                )
            await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        subscription = self._store.subscribe(
            self._registry.prefixes, self.position or None, event_types=self._event_types
        )
        async with aclosing(subscription) as batches:
            async for batch in batches:
                told = [each for raw in batch.records for each in self._told(raw)]
                if told:
                    await asyncio.gather(*(self._commits.tell(key, what) for key, what in told))
                self.error = ""
                self.position = batch.position
                interval = CHECKPOINT_INTERVAL if told else IDLE_CHECKPOINT_INTERVAL
                await self._checkpoints.save_after(self._safe_position(), interval)

    def _safe_position(self) -> int:
        held = self._commits.held
        return self.position if held is None else min(self.position, held - 1)

    def _told(self, raw: RawRecord) -> list[tuple[str, Told]]:
        begins: dict[str, bool] = {}
        for each in recorded(self._registry, raw):
            key = self.definition.key_of(each.event)
            if key is not None and self._owns(key):
                begins[key] = begins.get(key, False) or self.definition.begins_with(each.event)
        # What comes next in the same batch may concern a process that this begins.
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
            self._timers_moved.clear()
            now = self._clock()
            while self._timers and self._timers[0][0] <= now:
                due, key, name, number = heapq.heappop(self._timers)
                if key in self._commits.open:
                    told = Told(f"timeout:{name}:{number}", timeout=name, number=number, due=due)
                    self._commits.tell(key, told)
            wait = (self._timers[0][0] - now).total_seconds() if self._timers else None
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait is None else min(wait, 3600.0)):
                    await self._timers_moved.wait()


def _version_of(metadata: Metadata) -> int:
    try:
        return int(metadata.get("schemaVersion", "1"))
    except ValueError:  # somebody else's
        return 1
