"""Sends scheduled commands when they are due: each once, late rather than never.

One process of a stack does. Where two do for a while, each command is sent by the one whose record
says that it is due, or by both under one id, which counts once.
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
"""Seconds until what the store did not take is tried again."""

FIRING = 256
"""Commands that are read, and noted as due, at a time; the others wait for their turn."""

BEGUN = 2 * FIRING
"""Commands that are being sent, apart from those that had no answer: others stay timers."""

LOOK = 0.1
"""Seconds after which it looks again whether some of them had no answer."""

WAITING = 1_000_000
"""Records that may wait to be appended."""

BATCH = 200
"""Records that are appended together."""


class ScheduleRunner:
    """Follows the streams of scheduled commands, of whichever gateway took them."""

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
        """Why commands are not sent: nobody can read what is scheduled."""
        self._position = 0
        self._firing = asyncio.Semaphore(FIRING)
        self._sent = asyncio.Event()
        self._left = 0
        """How many of those that are begun broke, and are tried again after a while."""
        self._sending: dict[asyncio.Task[None], tuple[str, datetime]] = {}
        """What sends commands: which, and when it was due."""
        self._appending = Batcher(self._append, max_batch=BATCH, max_queue=WAITING)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Learn what is scheduled; send what is due.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        self._open, self._position = await self._index.load()
        for command_id, each in self._open.items():
            if each.error:
                self._held[command_id] = each.error
            elif each.due_at is None:
                self._timers.replace(command_id, {"": (0, each.not_before)})
            else:  # whoever found it due may not have sent it
                self._begin_to_send(command_id, self._clock())
        for command_id in [*self._held]:  # the index does not know of deletions
            if await read_schedule(self._log, command_id) is None:
                self._forget(command_id)
        self._begin(self._follow_always())
        self._begin(lasting(self._time, "the clock of scheduled commands"))
        self._begin(lasting(self._index.keep, "the index of scheduled commands"))

    async def stop(self) -> None:
        """Stop where it is; the next start goes on from there."""
        try:
            await cancel(*self._tasks)
        finally:
            await self._appending.close()
            await self._delivery.close()

    def status(self) -> dict[str, Any]:
        """Return counts, for operators; `error` where something is wrong."""
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
        """Return the commands that are due next, and how many there are; those held come first."""
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
        """Look at the clock again."""
        self._timers.wake()

    async def forget_personal(self) -> None:
        """Read again from the log what is being sent, as somebody in it may be forgotten by now.

        A command without an answer is sent again for as long as it has none: until then it would
        hold what was decrypted, and write that once it is taken.
        """
        sending = {**self._sending}
        await cancel(*sending)
        for command_id, due in sending.values():
            if command_id in self._open:  # perhaps as one that was scheduled again, and is not due
                self._begin_to_send(command_id, due)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_to_send(self, command_id: str, due: datetime) -> None:
        known = self._open[command_id]  # before the task begins: it may be scheduled again by then
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
                # All that are due at midnight, say, would be in memory at once.
                while len(self._sending) - self._left - len(self._delivery.unanswered) >= BEGUN:
                    self._sent.clear()
                    await asleep(LOOK, self._sent)
            await self._timers.sleep(self._clock())  # it may have taken a while

    async def _fire(self, command_id: str, known: OpenSchedule, due: datetime) -> None:
        while True:
            try:
                left = await self._send(command_id, due)
            except (StoreError, OSError) as error:
                self.error = str(error)
            except (Exception, SystemExit) as error:  # an author's validator, for instance
                self.error = f"{type(error).__name__}: {error}"
                log.exception("a scheduled command was not sent", extra={"command_id": command_id})
            else:
                if self._open.get(command_id) is not known:
                    return  # it was scheduled again meanwhile, and has its timer
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
        """Send what is due then until it has an answer.

        Return why nobody can read it, if so; or when it is due, if that is later.
        """
        async with self._firing:
            state, due_at = await self._read(command_id), None
            while state is not None and state.end is None and state.due_at is None:
                if state.command is None:
                    return state.error
                if state.command.not_before > due:
                    return state.command.not_before  # it was deleted, and scheduled again
                record = new_record(DUE, Nothing(), state.command.correlation_id or command_id)
                if noted := await self._appended(command_id, state.revision, record):
                    state, due_at = state._replace(revision=state.revision + 1), noted.position
                    break
                state = await self._read(command_id)  # cancelled, or due already
        if state is None or state.end is not None:
            return ""
        if (scheduled := state.command) is None:
            return state.error
        sent = due_at is None  # perhaps, by whoever found it due
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
                return ""  # somebody else has noted it, or it was scheduled again
        self.fired += 1
        return ""

    async def _read(self, command_id: str) -> ScheduleState | None:
        state = await read_schedule(self._log, command_id)
        if state is None:  # then nobody wants it
            log.warning(
                "a scheduled command is not sent: its stream was deleted",
                extra={"command_id": command_id},
            )
        return state

    def _envelope(self, command_id: str, scheduled: ScheduledCommand) -> Envelope:
        payload = bytes(scheduled.payload)
        definition = self._registry.commands.get(scheduled.command)
        if definition is not None and definition.server_supplied:
            # The fields that hold an instant hold that at which it is sent.
            try:
                command = definition.decode(payload)
            except ValueError:
                pass  # kept by another release, say: its writer refuses it
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
        if command_id not in self._open:  # it was cancelled just now
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
