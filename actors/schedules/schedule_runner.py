"""Sends scheduled commands when they are due: each once, late rather than never.

One process of a stack does this. If two do for a while, a command is sent by the one that recorded
it as due, or by both with the same id, so that it is executed once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any

from actors.command_middleware import Bus, Sender
from actors.envelope import Done, Envelope
from actors.processes.delivery import Delivery
from actors.processes.open_index import OpenIndex
from actors.processes.timers import Timers
from actors.schedules.records import (
    ACCEPTED,
    DUE,
    PREFIX,
    REFUSED,
    Acceptance,
    Nothing,
    OpenSchedule,
    Refusal,
    ScheduledCommand,
    new_record,
)
from actors.schedules.schedule_state import ScheduleState, read_schedule
from eventstore.errors import StoreError, StoreUnavailable
from eventstore.port import Appended, AppendResult, InvalidAppend, Log, StreamAppend
from eventstore.records import NewRecord
from rayfold import Origin, Registry
from rayfold.process_instance import stamped
from rayfold.runtime.batching import Batcher
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import cancel
from rayfold.runtime.waking import asleep

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a failed append is tried again."""

FIRING = 256
"""Commands that are read and recorded as due at a time; the others wait."""

BEGUN = 2 * FIRING
"""Commands that are being sent, not counting those without an answer; others remain timers."""

LOOK = 0.1
"""Seconds between checks whether some of them got no answer."""

WAITING = 1_000_000
"""Records that may wait to be appended."""

BATCH = 200
"""Records that are appended together."""


class ScheduleRunner:
    """Follows the streams of scheduled commands, whichever gateway accepted them."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        bus: Bus,
        postgres: str = "",
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.error = ""
        self.fired = 0
        self._registry = registry
        self._log = log
        self._clock = clock
        self._delivery = Delivery(registry, log, bus)
        self._index = OpenIndex(log, postgres, "schedule", PREFIX, OpenSchedule)
        self._timers = Timers()
        self._open: dict[str, OpenSchedule] = {}
        self._held: dict[str, str] = {}
        """By command id: why it is not sent, as its record cannot be read."""
        self._position = 0
        self._firing = asyncio.Semaphore(FIRING)
        self._sent = asyncio.Event()
        self._left = 0
        """How many of the started commands failed and are retried later."""
        self._sending: dict[asyncio.Task[None], tuple[str, datetime]] = {}
        """The tasks that send commands, each with the command's id and due time."""
        self._appending = Batcher(self._append, max_batch=BATCH, max_queue=WAITING)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load what is scheduled; send what is due.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        self._open, self._position = await self._index.load()
        for command_id, each in self._open.items():
            if each.error:
                self._held[command_id] = each.error
            elif each.due_at is None:
                self._timers.replace(command_id, {"": (0, each.not_before)})
            else:  # the process that recorded it as due may not have sent it
                self._begin_to_send(command_id, self._clock())
        for command_id in [*self._held]:  # the index does not reflect deletions
            if await read_schedule(self._log, command_id) is None:
                self._forget(command_id)
        self._begin(self._follow_always())
        self._begin(lasting(self._time, "the clock of scheduled commands"))
        self._begin(lasting(self._index.keep, "the index of scheduled commands"))

    async def stop(self) -> None:
        """Stop; the next start continues from there."""
        try:
            await cancel(*self._tasks)
        finally:
            await self._appending.close()
            await self._delivery.close()

    def status(self) -> dict[str, Any]:
        """Return counts, for operators; `error` if something is wrong."""
        error = self.error or self._index.error
        return {
            "position": self._position,
            "timers": len(self._timers),
            "sending": len(self._open) - len(self._timers) - len(self._held),
            "parked": len(self._held),
            "fired": self.fired,
            "waiting": len(self._delivery.unanswered),
            **({"error": error} if error else {}),
        }

    def scheduled(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return the commands that are due next, and their number; unreadable ones come first."""
        found = [*self._held, *(key for _, key, *_ in nsmallest(limit, self._timers))]
        return [
            {
                "due": self._open[command_id].not_before,
                "command_id": command_id,
                "command": self._open[command_id].command,
                "stream": self._open[command_id].stream,
                "principal": self._open[command_id].principal,
                "error": self._held.get(command_id),
            }
            for command_id in found[:limit]
        ], len(self._timers) + len(self._held)

    def wake(self) -> None:
        """Check the clock again."""
        self._timers.wake()

    async def forget_personal(self) -> None:
        """Read commands being sent from the log again: a person in them may be forgotten.

        A command without an answer is sent again and again: without this, it would hold the
        decrypted data until it is accepted, and write it then.
        """
        sending = {**self._sending}
        await cancel(*sending)
        for command_id, due in sending.values():
            if command_id in self._open:  # perhaps because it was scheduled again and is not due
                self._begin_to_send(command_id, due)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_to_send(self, command_id: str, due: datetime) -> None:
        # Read before the task starts: it may be scheduled again by then.
        known = self._open[command_id]
        task = self._begin(self._fire(command_id, known, due))
        self._sending[task] = command_id, due

        def over(_: asyncio.Task[None]) -> None:
            del self._sending[task]
            self._sent.set()

        task.add_done_callback(over)

    async def _follow_always(self) -> None:
        while True:
            try:
                await self._follow()
            except StoreUnavailable as error:
                self.error = str(error)
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                log.exception("scheduled commands cannot be followed")
            await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        subscription = self._log.subscribe([PREFIX], self._position or None)
        async with aclosing(subscription) as batches:
            async for batch in batches:
                self.error = ""
                for raw in batch.records:
                    command_id = raw.stream[len(PREFIX) :]
                    begins = OpenSchedule.begins_with(raw, is_open=command_id in self._open)
                    if begins:
                        self._open[command_id] = OpenSchedule()
                    if (each := self._open.get(command_id)) is None:
                        continue
                    each.fold(raw)
                    if not each.is_open:
                        self._forget(command_id)
                    elif begins and each.error:
                        self._hold(command_id, each.error)
                    elif begins:
                        self._held.pop(command_id, None)
                        self._timers.replace(command_id, {"": (0, each.not_before)})
                self._position = batch.position

    async def _time(self) -> None:
        while True:
            now = self._clock()
            for timer in self._timers.pop_due(now):
                self._begin_to_send(timer.key, timer.due)
                # Otherwise all that are due at midnight, for example, would be in memory at once.
                while len(self._sending) - self._left - len(self._delivery.unanswered) >= BEGUN:
                    self._sent.clear()
                    await asleep(LOOK, self._sent)
            await self._timers.sleep(self._clock())  # this may have taken a while

    async def _fire(self, command_id: str, known: OpenSchedule, due: datetime) -> None:
        while True:
            try:
                left = await self._send(command_id, due)
            except (StoreError, OSError) as error:
                self.error = str(error)
            except (Exception, SystemExit) as error:  # the domain's validator, for example
                self.error = f"{type(error).__name__}: {error}"
                log.exception("a scheduled command was not sent", extra={"command_id": command_id})
            else:
                if self._open.get(command_id) is not known:
                    return  # it was scheduled again meanwhile, and has a new timer
                if isinstance(left, datetime):
                    self._timers.replace(command_id, {"": (0, left)})
                elif left:
                    self._hold(command_id, left)
                else:
                    self._forget(command_id)
                return
            self._left += 1
            self._sent.set()
            try:
                await asyncio.sleep(RETRY)
            finally:
                self._left -= 1

    async def _send(self, command_id: str, due: datetime) -> str | datetime:
        """Send the command that is due at that time until it has an answer.

        Return why it cannot be read, if so; or its due time, if that is later.
        """
        async with self._firing:
            state, due_at = await self._read(command_id), None
            while state is not None and state.end is None and state.due_at is None:
                if state.command is None:
                    return state.error
                if state.command.not_before > due:
                    return state.command.not_before  # it was deleted and scheduled again
                record = new_record(DUE, Nothing(), state.command.correlation_id or command_id)
                if noted := await self._appended(command_id, state.revision, record):
                    state, due_at = state._replace(revision=state.revision + 1), noted.position
                    break
                state = await self._read(command_id)  # cancelled, or due already
        if state is None or state.end is not None:
            return ""
        if (scheduled := state.command) is None:
            return state.error
        sent = due_at is None  # perhaps, by the process that recorded it as due
        decided_at = state.due_at if due_at is None else due_at
        assert decided_at is not None
        sender = Sender(Origin.SCHEDULE, scheduled.role, frozenset(scheduled.permissions))
        envelope = self._envelope(command_id, scheduled)
        answer = await self._delivery.answer(envelope, decided_at, sender, sent=sent)
        correlation_id = scheduled.correlation_id or command_id
        if isinstance(answer, Done):
            accepted = Acceptance(answer.revision, answer.position, answer.revisions or {})
            end = new_record(ACCEPTED, accepted, correlation_id)
        else:
            end = new_record(REFUSED, Refusal(*answer), correlation_id)
        while not await self._appended(command_id, state.revision, end):
            state = await self._read(command_id)
            if state is None or state.end is not None or state.due_at != decided_at:
                return ""  # another process has recorded it, or it was scheduled again
        self.fired += 1
        return ""

    async def _read(self, command_id: str) -> ScheduleState | None:
        state = await read_schedule(self._log, command_id)
        if state is None:  # then it is not wanted
            log.warning(
                "a scheduled command is not sent: its stream was deleted",
                extra={"command_id": command_id},
            )
        return state

    def _envelope(self, command_id: str, scheduled: ScheduledCommand) -> Envelope:
        payload = bytes(scheduled.payload)
        definition = self._registry.commands.get(scheduled.command)
        if definition is not None and definition.server_supplied:
            # Fields that are set to the current time get the time of sending.
            try:
                command = definition.decode(payload)
            except ValueError:
                pass  # stored by another release, for example: its writer refuses it
            else:
                payload = definition.encode(stamped(command, self._clock()))
        return Envelope(
            scheduled.command,
            scheduled.stream,
            payload,
            command_id,
            scheduled.fingerprint,
            scheduled.expected_revision,
            scheduled.principal,
            scheduled.correlation_id,
            scheduled.causation_id,
            scheduled.traceparent,
            tenant=self._registry.tenant_of(scheduled.stream),
        )

    def _hold(self, command_id: str, error: str) -> None:
        if command_id not in self._open:  # it has just been cancelled
            return
        log.error("a scheduled command is held", extra={"command_id": command_id, "error": error})
        self._held[command_id] = error
        self._timers.forget(command_id)

    def _forget(self, command_id: str) -> None:
        self._open.pop(command_id, None)
        self._held.pop(command_id, None)
        self._timers.forget(command_id)

    async def _appended(self, command_id: str, expected: int, record: NewRecord) -> Appended | None:
        append = StreamAppend(f"{PREFIX}{command_id}", expected, [record])
        answer = await self._appending.call(append)
        if isinstance(answer, InvalidAppend):
            raise StoreError(answer.reason)
        return answer if isinstance(answer, Appended) else None

    async def _append(self, appends: list[StreamAppend]) -> Sequence[AppendResult]:
        return await self._log.append(appends)
