"""Mailboxes of processes, and group commits of their steps.

Messages wait in one mailbox per process; steps of all ready processes are decided and appended in
one call. A step is applied only once it is durable, at its expected revision. If another runner was
faster, or the outcome is unknown, the process is folded again from its stream, which holds all of
its state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from actors.command_middleware import Bus
from actors.errors import ProcessStuck
from actors.processes.delivery import Delivery
from actors.processes.planning import ActiveProcess, Message, Order, Plan, What, plan
from actors.processes.process_state import ProcessState, load
from actors.processes.records import Told
from actors.processes.timers import Timers
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.one_record import record_at
from eventstore.port import BEING_FORGOTTEN, Appended, InvalidAppend, Log, StreamAppend
from rayfold import Registry
from rayfold.personal import is_marked
from rayfold.process import ProcessDefinition
from rayfold.runtime.tracing import tracing
from rayfold.runtime.turns import Turn
from rayfold.tenants import tenant_of

log = logging.getLogger(__name__)

COMMIT_PROCESSES = 200
"""Processes whose steps are appended together."""

CACHED = 10_000
"""Processes in memory; above that, the oldest idle ones are dropped."""

RETRY = 1.0
"""Seconds until a failed append is tried again."""


class ProcessCommits:
    """The only writer of many processes' streams, unless a second runner exists.

    `open` has the keys of processes that have not ended, `parked` those of parked ones, with the
    errors.

    A process that cannot even be parked in its stream is *left*: events that it missed are read
    again from the log when it is retried, or at the next start. Its other messages are in its
    stream.
    """

    def __init__(
        self,
        registry: Registry,
        definition: ProcessDefinition,
        log: Log,
        bus: Bus,
        clock: Callable[[], datetime],
        timers: Timers,
    ) -> None:
        """`timers` are updated as processes set them."""
        self.open: set[str] = set()
        self.parked: dict[str, str] = {}
        self.steps = 0
        self.forgotten = 0
        """How many times a person was forgotten: what was read earlier may hold their data."""
        self.error = ""
        self._registry = registry
        self._definition = definition
        self._log = log
        self._clock = clock
        self._timers = timers
        self._held: set[str] = set()
        """Left processes that have missed an event."""
        self._writer = f"process:{definition.name}:{uuid4().hex[:12]}"
        self._delivery = Delivery(registry, log, bus)
        self._tracing = tracing()
        self._processes: dict[str, ActiveProcess] = {}
        self._ready: dict[str, None] = {}
        self._work = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading_again: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Start processing the mailboxes."""
        self._begin(self._commit_always())

    async def stop(self) -> None:
        """Stop immediately."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._delivery.close()

    @property
    def holds_any(self) -> bool:
        """Return whether a process has missed an event: no checkpoint may be saved after it."""
        return bool(self._held)

    def holds(self, key: str) -> bool:
        """Return whether this process has missed an event."""
        return key in self._held

    def tell(self, key: str, what: What, trace: str = "") -> asyncio.Future[None]:
        """Put a message into a process's mailbox; `trace` is the trace that it belongs to, if any.

        The returned future is done once the message is recorded, or is found to be unneeded. For an
        order it may raise `ProcessStuck`.
        """
        process = self._process(key)
        message = Message(what, asyncio.get_running_loop().create_future())
        if trace and self._tracing is not None:
            name = self._definition.name
            message.span = self._tracing.begin(
                f"step {name}",
                trace,
                kind="consumer",
                attributes={"rayfold.process": name, "rayfold.key": key},
            )
        if process.left or (isinstance(what, Told) and what.event and key in self._held):
            self._pass_over(process, message)
        else:
            process.mailbox.append(message)
            self._wake(process)
        return message.done

    async def retry(self, key: str) -> None:
        """Retry what a process is parked on, or read a left process again.

        Raises:
            ProcessStuck: its stream still cannot be read.
        """
        process = self._process(key)
        process.left = process.refused = ""
        await self.tell(key, Order.RETRY)

    def read_again(self, key: str) -> None:
        """Deliver events to a left process again: its reader restarts before the missed ones."""
        self._held.discard(key)

    def resume(self, key: str) -> None:
        """Continue with the unfinished work of a process."""
        self._wake(self._process(key))

    async def forget_personal(self) -> None:
        """Read processes again from the log, as a person in them may have been forgotten."""
        self.forgotten += 1
        done = asyncio.get_running_loop().create_future()
        self._reading_again.append(done)
        self._work.set()
        await done

    def _read_all_again(self) -> None:
        for process in self._processes.values():
            is_sending = process.sender is not None
            process.stop_sending()
            process.state, process.is_stale = None, bool(process.mailbox)
            if is_sending or process.mailbox:
                self._wake(process)
        for done in self._reading_again:
            if not done.done():
                done.set_result(None)
        self._reading_again.clear()

    @property
    def unanswered(self) -> int:
        """The number of commands without an answer, which are sent again."""
        return len(self._delivery.unanswered)

    def why_unanswered(self, key: str) -> str | None:
        """Return why a process's command has no answer; None if all have."""
        state = self.in_memory(key)
        if not self._delivery.unanswered or state is None or state.next_sending is None:
            return None
        sending = state.next_sending
        error = self._delivery.unanswered.get(str(sending.command_id))
        name = type(sending.command).__rayfold__.name
        return None if error is None else f"{name} has no answer, and is sent again: {error}"

    def in_memory(self, key: str) -> ProcessState | None:
        """Return a process if it is in memory."""
        process = self._processes.get(key)
        return process.state if process else None

    def _process(self, key: str) -> ActiveProcess:
        return self._processes.setdefault(key, ActiveProcess(key))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _wake(self, process: ActiveProcess) -> None:
        self._ready[process.key] = None
        self._work.set()

    async def _commit_always(self) -> None:
        while True:
            await self._work.wait()
            if self._reading_again:  # between two commits: nothing uses a state
                self._read_all_again()
            keys = list(self._ready)[:COMMIT_PROCESSES]
            for key in keys:
                del self._ready[key]
            if not self._ready:
                self._work.clear()
            processes = [self._processes[key] for key in keys if key in self._processes]
            try:
                await self._commit(processes)
            except StoreUnavailable as error:
                # If events were appended nevertheless, the next fold of these processes shows it.
                self.error = str(error)
                await self._again(processes)
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                log.exception("steps could not be recorded", extra=self._about())
                await self._again(processes)
            self._forget_idle()

    async def _again(self, processes: list[ActiveProcess]) -> None:
        for process in processes:
            process.state = None
            self._wake(process)
        await asyncio.sleep(RETRY)

    async def _commit(self, processes: list[ActiveProcess]) -> None:
        loaded = await asyncio.gather(*(self._loaded(each) for each in processes))
        now = self._clock()
        plans, turn = [], Turn()
        for each, ok in zip(processes, loaded, strict=True):
            if ok:
                await turn.pass_on()
                plans.append(plan(each, self._writer, now))
        refused: dict[str, str] = {}
        waiting: set[str] = set()
        writing = [each for each in plans if each.records]
        if writing:
            appends = [StreamAppend(p.stream, p.state.expected, p.records) for p in writing]
            results = await self._log.append(appends)
            for planned, result in zip(writing, results, strict=True):
                if isinstance(result, Appended):
                    planned.commit(result)
                    self.steps += len(planned.records)
                elif isinstance(result, InvalidAppend):
                    refused[planned.process.key] = result.reason
                else:
                    planned.drop()
                    if result == BEING_FORGOTTEN:
                        planned.process.is_stale = True
                        waiting.add(planned.process.key)
        self.error = ""
        for planned in plans:
            if planned.process.key in waiting:
                self._begin(self._wake_later(planned.process))
            elif (reason := refused.get(planned.process.key)) is not None:
                self._refuse(planned.process, reason)
            else:
                self._done(planned)

    async def _loaded(self, process: ActiveProcess) -> bool:
        if process.left:
            return False
        if process.state is not None:
            return True
        try:
            if process.is_stale:
                await self._read_told_again(process)
            process.state = await load(self._log, self._registry, self._definition, process.key)
        except StoreUnavailable:
            raise
        except StreamTombstoned:
            self._gone(process)
            return False
        except (Exception, SystemExit) as error:  # also errors in the domain's `evolve`
            log.exception("a process cannot be read", extra=self._about(process.key))
            self._leave(process, f"its stream cannot be read: {type(error).__name__}: {error}")
            return False
        return True

    async def _read_told_again(self, process: ActiveProcess) -> None:
        """Read the events of a mailbox again, to record no data of forgotten persons."""
        for message in [*process.mailbox]:
            told = message.what
            if isinstance(told, Told) and told.event and is_marked(bytes(told.data)):
                raw = await record_at(self._log, told.stream, told.revision)
                if raw is None:  # it was deleted: after a restart it would not be delivered either
                    process.mailbox.remove(message)
                    message.settle()
                else:
                    message.what = msgspec.structs.replace(told, data=msgspec.Raw(raw.data))
        process.is_stale = False

    async def _wake_later(self, process: ActiveProcess) -> None:
        await asyncio.sleep(RETRY)
        self._wake(process)

    def _gone(self, process: ActiveProcess) -> None:
        """Forget a process whose stream was deleted for good: it gets no more messages."""
        key, process.left = process.key, "its stream was deleted for good"
        log.warning("a process was deleted for good", extra=self._about(key))
        self.open.discard(key)
        self.parked.pop(key, None)
        self._held.discard(key)
        self._timers.forget(key)
        process.stop_sending()
        while process.mailbox:
            message = process.mailbox.popleft()
            is_order = isinstance(message.what, Order)
            message.settle(
                ProcessStuck(self._definition.name, key, process.left) if is_order else None
            )
        del self._processes[key]

    def _leave(self, process: ActiveProcess, reason: str) -> None:
        """Leave a process that cannot even be parked in its stream; see the class."""
        process.left, process.refused, process.state = reason, "", None
        process.stop_sending()
        self.parked[process.key] = reason
        self._timers.forget(process.key)
        while process.mailbox:
            self._pass_over(process, process.mailbox.popleft())

    def _pass_over(self, process: ActiveProcess, message: Message) -> None:
        what, key = message.what, process.key
        if isinstance(what, Told) and what.position is not None:
            self._held.add(key)
        if isinstance(what, Order):
            message.settle(ProcessStuck(self._definition.name, key, process.left))
        else:
            message.settle()

    def _refuse(self, process: ActiveProcess, reason: str) -> None:
        """Park a process whose step the store will never accept: it is too large, for example."""
        log.error("a step cannot be recorded", extra=self._about(process.key))
        if process.refused:  # this append was to park it
            self._leave(process, f"it cannot be parked: {reason}")
        else:
            process.refused = reason
            self._wake(process)

    def _done(self, planned: Plan) -> None:
        process, state = planned.process, planned.process.state
        for _ in range(planned.taken):
            message = process.mailbox.popleft()
            error = message.error
            if isinstance(message.what, Told) and not message.what.command_id:
                process.trace = message.span.traceparent if message.span is not None else ""
            message.settle(
                ProcessStuck(self._definition.name, process.key, error) if error else None
            )
        if state is not None:
            self._settle(process, state)
        if process.mailbox:
            self._wake(process)

    def _settle(self, process: ActiveProcess, state: ProcessState) -> None:
        key, instance = process.key, state.instance
        if state.revision >= 0 and state.is_open:
            self.open.add(key)
        else:
            self.open.discard(key)
        if state.error:
            self.parked[key] = state.error
        else:
            self.parked.pop(key, None)
            if state.parked:  # the first message succeeded: continue with those that wait
                self.tell(key, Order.RETRY).add_done_callback(_heard)
        self._timers.replace(key, {t.name: (t.number, t.due) for t in instance.timers.values()})
        if process.sender is None and state.next_sending is not None:
            process.sender = self._begin(self._send(process))

    async def _send(self, process: ActiveProcess) -> None:
        try:
            while (state := process.state) is not None and (sending := state.next_sending):
                answer = await self._delivery.deliver(
                    sending,
                    principal=f"process:{self._definition.name}",
                    correlation_id=state.correlation_id,
                    decided_at=state.decided_at[sending.command_id],
                    sent=sending.command_id in state.unsure,
                    trace=process.trace,
                    tenant=tenant_of(process.key) if self._registry.tenants else "",
                )
                await self.tell(process.key, answer)
        finally:
            if process.sender is asyncio.current_task():
                process.sender = None

    def _forget_idle(self) -> None:
        if len(self._processes) <= CACHED:
            return
        for key, process in list(self._processes.items()):
            if not (process.mailbox or process.sender or process.left or key in self._ready):
                del self._processes[key]
            if len(self._processes) <= CACHED * 3 // 4:
                return

    def _about(self, key: str = "") -> dict[str, str]:
        return {"manager": self._definition.name, "key": key}


def _heard(done: asyncio.Future[None]) -> None:
    """Retrieve an error that is reported elsewhere."""
    if not done.cancelled():
        done.exception()
