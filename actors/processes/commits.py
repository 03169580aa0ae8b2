"""Mailboxes for processes, and the steps that come of them, appended together.

What waits to be told lies in a mailbox for each process; whatever is ready is decided and appended
in one call. A step is applied only once it is durable, at the revision that was expected: where
another runner was faster, or nobody knows, the process is folded again from its stream, which is
all that there is of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from uuid import uuid4

from actors.command_bus import CommandBus
from actors.processes.delivery import Delivery
from actors.processes.planning import RETRY_ORDER, ActiveProcess, Message, Plan, plan
from actors.processes.process_state import ProcessState, load
from actors.processes.records import Accepted, Told
from eventstore.errors import StoreUnavailable
from eventstore.port import Appended, InvalidAppend, Log, StreamAppend
from rayfold import Registry
from rayfold.process import ProcessDefinition
from rayfold.process_instance import Timer

log = logging.getLogger(__name__)

COMMIT_PROCESSES = 200
"""Processes whose steps are appended together."""

SENDING = 128
"""Commands that are on their way at a time."""

CACHED = 10_000
"""Processes in memory; the oldest that have nothing to do leave first."""

RETRY = 1.0
"""Seconds until what the store did not take is tried again."""


class ProcessCommits:
    """The one writer of many processes' streams, as long as there is no other.

    `open` are the keys of processes to which something may still happen, `parked` those of parked
    ones, with the errors. `held` is the first position of an event that a process could not be
    told of: no checkpoint may lie behind it.
    """

    def __init__(
        self,
        registry: Registry,
        definition: ProcessDefinition,
        store: Log,
        bus: CommandBus,
        clock: Callable[[], datetime],
        scheduled: Callable[[str, Timer], None],
    ) -> None:
        """`scheduled` is told of each timer that a process sets."""
        self.open: set[str] = set()
        self.parked: dict[str, str] = {}
        self.held: int | None = None
        self.steps = 0
        self.error = ""
        self._registry = registry
        self._definition = definition
        self._store = store
        self._clock = clock
        self._scheduled = scheduled
        self._writer = f"process:{definition.name}:{uuid4().hex[:12]}"
        self._delivery = Delivery(registry, store, bus)
        self._processes: dict[str, ActiveProcess] = {}
        self._ready: dict[str, None] = {}
        self._work = asyncio.Event()
        self._sending = asyncio.Semaphore(SENDING)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to work on what is in the mailboxes."""
        self._begin(self._commit_always())

    async def stop(self) -> None:
        """Stop where it is."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def tell(self, key: str, what: Told | Accepted | str) -> asyncio.Future[None]:
        """Put something into a process's mailbox; the answer is done once it is recorded."""
        process = self._process(key)
        message = Message(what, asyncio.get_running_loop().create_future())
        process.mailbox.append(message)
        self._wake(process)
        return message.done

    def resume(self, key: str) -> None:
        """Go on with what a process has not done yet."""
        self._wake(self._process(key))

    def in_memory(self, key: str) -> ProcessState | None:
        """Return a process as it is in memory, if it is."""
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
            keys = list(self._ready)[:COMMIT_PROCESSES]
            for key in keys:
                del self._ready[key]
            if not self._ready:
                self._work.clear()
            processes = [self._processes[key] for key in keys if key in self._processes]
            try:
                await self._commit(processes)
            except StoreUnavailable as error:
                # What was appended, if anything, is seen when they are folded again.
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
        plans = [
            plan(each, self._writer, now) for each, ok in zip(processes, loaded, strict=True) if ok
        ]
        writing = [each for each in plans if each.records]
        if writing:
            appends = [StreamAppend(p.stream, p.state.expected, p.records) for p in writing]
            results = await self._store.append(appends)
            for planned, result in zip(writing, results, strict=True):
                if isinstance(result, Appended):
                    planned.commit(result.last_revision)
                elif isinstance(result, InvalidAppend):
                    self._refuse(planned, result.reason)
                else:
                    planned.drop()
        self.error = ""
        for planned in plans:
            self._done(planned)

    async def _loaded(self, process: ActiveProcess) -> bool:
        if process.state is not None:
            return True
        try:
            process.state = await load(self._store, self._registry, self._definition, process.key)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("a process cannot be read", extra=self._about(process.key))
            self._leave(process, f"its stream cannot be read: {error}")
            return False
        return True

    def _leave(self, process: ActiveProcess, error: str) -> None:
        """Go on without a process that cannot even be parked in its stream.

        Nothing is lost: the checkpoint stays before what it was not told, so that the next start
        tells it again.
        """
        self.parked[process.key] = error
        for message in process.mailbox:
            position = message.what.position if isinstance(message.what, Told) else None
            if position is not None:
                self.held = position if self.held is None else min(position, self.held)
            if not message.done.done():
                message.done.set_result(None)
        process.mailbox.clear()

    def _refuse(self, planned: Plan, reason: str) -> None:
        """Park a process whose step the store never takes: it is too large, say."""
        process, planned.taken = planned.process, 0
        log.error("a step cannot be recorded", extra=self._about(process.key))
        if process.refused:
            self._leave(process, reason)
        process.refused = reason

    def _done(self, planned: Plan) -> None:
        process, state = planned.process, planned.process.state
        for _ in range(planned.taken):
            message = process.mailbox.popleft()
            if not message.done.done():
                message.done.set_result(None)
        if state is not None:
            self.steps += len(planned.records)
            self._settle(process, state)
        if process.mailbox:
            self._wake(process)

    def _settle(self, process: ActiveProcess, state: ProcessState) -> None:
        key = process.key
        if state.revision >= 0 and state.is_open:
            self.open.add(key)
        else:
            self.open.discard(key)
        if state.error:
            self.parked[key] = state.error
        else:
            self.parked.pop(key, None)
            if state.parked:  # the first was mended: go on with what waits
                self.tell(key, RETRY_ORDER)
        for timer in state.instance.timers.values():
            if state.scheduled_until < timer.number:
                self._scheduled(key, timer)
        state.scheduled_until = state.instance.scheduled
        if state.instance.waiting and process.sender is None:
            process.sender = self._begin(self._send(process))

    async def _send(self, process: ActiveProcess) -> None:
        try:
            while process.state is not None and process.state.instance.waiting:
                state = process.state
                sending = next(iter(state.instance.waiting.values()))
                async with self._sending:
                    answer = await self._delivery.deliver(
                        sending,
                        principal=f"process:{self._definition.name}",
                        correlation_id=state.correlation_id,
                        decided_at=state.unsure.get(sending.command_id),
                    )
                await self.tell(process.key, answer)
        finally:
            process.sender = None

    def _forget_idle(self) -> None:
        if len(self._processes) <= CACHED:
            return
        for key, process in list(self._processes.items()):
            if not (process.mailbox or process.sender or key in self._ready):
                del self._processes[key]
            if len(self._processes) <= CACHED * 3 // 4:
                return

    def _about(self, key: str = "") -> dict[str, str]:
        return {"manager": self._definition.name, "key": key}
