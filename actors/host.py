"""Many aggregates in one event loop: a mailbox each, and rounds that are written together.

All that waits is decided at once, stream by stream, and appended in one call to the
store. While that is on its way the next mail gathers, so that rounds grow with load and
an idle host adds no delay. A stream is in at most one round at a time, which makes its
host the single writer as long as there is one; when there are two, the expected revision
on every append lets one of them through, and the other folds again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from actors.aggregate_cache import AggregateCache
from actors.entity import AggregateType
from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand, Overloaded, StreamUnreadable, Unavailable
from actors.loading import load, receipt_position
from actors.plan import Plan, Waiting, Written, plan
from actors.recent import Seen
from eventstore.errors import StoreUnavailable
from eventstore.port import Appended, Conflict, Log, StreamAppend
from rayfold import Registry, UnknownEventType, UnreadableEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostLimits:
    """Bounds of a host. Sizes are in events or bytes, times in seconds."""

    waiting: int = 10_000
    """Commands in all mailboxes; beyond that they are refused at once."""
    round_events: int = 500
    round_bytes: int = 512 * 1024
    rounds: int = 2
    """Rounds on their way to the store at a time: one is decided while one is written."""
    attempts: int = 5
    """How often a command is decided before its writer gives up against another writer."""
    loads: int = 32
    idle: float = 300.0
    """Seconds after which an aggregate without commands leaves memory."""
    residents: int = 200_000
    """Aggregates in memory; the least recently used leave first."""
    memory: int = 2 * 1024**3
    """Bytes of the process; above that the least recently used quarter leaves, again and again."""


class Host:
    """The single writer of many aggregates; plain asyncio, on any `Log`."""

    def __init__(
        self, registry: Registry, store: Log, incarnation: str, limits: HostLimits | None = None
    ) -> None:
        """`incarnation` names this writer on every event; no two writers share one."""
        self._registry = registry
        self._store = store
        self._incarnation = incarnation
        self._limits = limits or HostLimits()
        self._residents = AggregateCache(store, self._limits.idle, self._limits.residents)
        self._mail: dict[str, deque[Waiting]] = {}
        self._owners: dict[str, AggregateType] = {}
        self._ready: dict[str, None] = {}
        self._away: set[str] = set()  # streams being loaded, or in a round
        self._waiting = 0
        self._round = 0
        self._rounds_open = 0
        self._loads = asyncio.Semaphore(self._limits.loads)
        self._tasks: set[asyncio.Task[None]] = set()
        self.commands = 0
        self.conflicts = 0

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """An outcome for each command, in order, when all of them have one."""
        answers = [self._accept(envelope) for envelope in envelopes]
        self._start_rounds()
        return [await answer for answer in answers]

    async def drain(self) -> None:
        """Returns when no command waits and none is on its way, and snapshots are written."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks), return_exceptions=True)
        await self._residents.evict_all()

    def status(self) -> dict[str, Any]:
        """Counts, for operators."""
        return {
            "aggregates": len(self._residents),
            "waiting": self._waiting,
            "commands": self.commands,
            "rounds": self._round,
            "conflicts": self.conflicts,
        }

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Lets aggregates go that were idle for long, or are too many; gives their number.

        Where the process has come to more than its bound in `resident_bytes`, a quarter goes.
        """
        keep = 0.75 if resident_bytes > self._limits.memory else 1.0
        return await self._residents.sweep(self._mail, keep=keep)

    # Arrival

    def _accept(self, envelope: Envelope) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        command_type = self._registry.commands.get(envelope.command)
        if command_type is None:
            answer.set_result(InvalidCommand(f"no command is named {envelope.command!r}"))
            return answer
        if self._waiting >= self._limits.waiting:
            answer.set_result(Overloaded())
            return answer
        try:
            command = command_type.__pydantic_validator__.validate_json(envelope.payload)
        except ValidationError as error:
            answer.set_result(InvalidCommand(str(error)))
            return answer
        owner = self._registry.owner[command_type]
        stream = envelope.stream
        mail = self._mail.get(stream)
        if mail is None:
            mail = self._mail[stream] = deque()
            self._owners[stream] = owner
        mail.append(Waiting(envelope, command, answer))
        self._waiting += 1
        if stream not in self._away:
            self._wake(stream, guess=command_type.creates)
        return answer

    def _wake(self, stream: str, *, guess: bool) -> None:
        """Its next round may decide on the stream, once it is in memory."""
        if stream in self._residents:
            self._ready[stream] = None
        elif guess:
            self._residents.put(stream, self._owners[stream])
            self._ready[stream] = None
        else:
            self._away.add(stream)
            self._spawn(self._load(stream))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, stream: str) -> None:
        try:
            async with self._loads:
                entity = await load(self._store, self._registry, self._owners[stream], stream)
        except StoreUnavailable as error:
            self._fail(stream, Unavailable(f"the event store does not answer: {error}"))
        except (UnknownEventType, UnreadableEvent) as error:
            self._fail(stream, StreamUnreadable(str(error)))
        except Exception as error:
            # A user's `evolve` or upcaster broke: that aggregate refuses, others go on.
            log.exception("folding %s failed", stream)
            self._fail(stream, StreamUnreadable(f"folding {stream} failed: {error!r}"))
        else:
            self._residents.add(entity)
            self._return(stream)
        self._start_rounds()

    def _fail(self, stream: str, error: Exception) -> None:
        """All that waits at the stream gets the error; the next command tries again."""
        for waiting in self._mail.pop(stream, ()):
            self._settle(waiting, error)
        self._residents.drop(stream)
        self._return(stream)

    def _return(self, stream: str) -> None:
        """The stream is neither being loaded nor in a round any more."""
        self._away.discard(stream)
        mail = self._mail.get(stream)
        if mail:
            self._wake(stream, guess=False)
        else:
            self._mail.pop(stream, None)
            self._owners.pop(stream, None)

    # Rounds

    def _start_rounds(self) -> None:
        while self._ready and self._rounds_open < self._limits.rounds:
            plans = self._next_round()
            if plans:
                self._rounds_open += 1
                self._spawn(self._write(plans))

    def _next_round(self) -> list[Plan]:
        """Decides on ready streams until the round is full; what needs no write is answered."""
        self._round += 1
        writer = f"{self._incarnation}/{self._round}"
        plans: list[Plan] = []
        events = size = 0
        while (
            self._ready and events < self._limits.round_events and size < self._limits.round_bytes
        ):
            stream = next(iter(self._ready))
            del self._ready[stream]
            mail = self._mail[stream]
            count = min(len(mail), max(self._limits.round_events - events, 1))
            planned = plan(self._residents.use(stream), self._take(mail, count), writer)
            self._away.add(stream)
            if planned.refuses_on_a_guess:
                self._put_back(planned)
                self._residents.drop(stream)
                self._return(stream)
            elif planned.records:
                plans.append(planned)
                events += len(planned.records)
                size += sum(len(record.data) for record in planned.records)
            else:
                self._conclude(planned, planned.entity.position)
                self._return(stream)
        return plans

    def _take(self, mail: deque[Waiting], count: int) -> list[Waiting]:
        """Return the next in a mailbox, without those for whose outcome nobody waits any more."""
        now = time.monotonic()
        taken = [mail.popleft() for _ in range(count)]
        expired = [each for each in taken if each.envelope.deadline < now]
        for each in expired:
            self._settle(each, Unavailable("its deadline passed while it waited for its turn"))
        return [each for each in taken if each.envelope.deadline >= now] if expired else taken

    async def _write(self, plans: list[Plan]) -> None:
        appends = [
            StreamAppend(each.entity.stream, each.entity.expected, each.records) for each in plans
        ]
        answers: Sequence[Appended | Conflict] = ()
        failure: Exception | None = None
        try:
            answers = await self._store.append(appends)
        except StoreUnavailable as error:
            failure = Unavailable(f"the event store does not answer: {error}")
        except Exception as error:
            # Whatever it was, nobody may be left waiting without an answer.
            log.exception("a round failed")
            failure = Unavailable(f"the round failed: {error!r}")
        self._rounds_open -= 1
        if failure is not None:
            for each in plans:
                self._put_back(each)
                self._fail(each.entity.stream, failure)
        for each, answer in zip(plans, answers, strict=False):
            if isinstance(answer, Appended):
                each.commit(answer.position)
                self._conclude(each, answer.position)
                self._residents.changed(each.entity)
            else:
                self.conflicts += 1
                self._give_way(each, answer)
            self._return(each.entity.stream)
        self._start_rounds()

    def _give_way(self, planned: Plan, conflict: Conflict) -> None:
        """Another writer was faster: fold again, decide again; nothing of this was written."""
        stream = planned.entity.stream
        self._residents.drop(stream)
        for waiting in planned.waiting:
            waiting.attempts += 1
        self._put_back(planned)
        mail = self._mail[stream]
        while mail and mail[0].attempts >= self._limits.attempts:
            detail = f"another writer of {stream} was faster each time: {conflict.reason}"
            self._settle(mail.popleft(), Unavailable(detail))

    def _put_back(self, planned: Plan) -> None:
        self._mail[planned.entity.stream].extendleft(reversed(planned.waiting))

    # Answers

    def _conclude(self, planned: Plan, position: int) -> None:
        for waiting, verdict in zip(planned.waiting, planned.verdicts, strict=True):
            if isinstance(verdict, Written):
                self._settle(waiting, Done(verdict.revision, position))
            elif isinstance(verdict, Seen):
                self._repeat(waiting, planned.entity.stream, verdict)
            else:
                self._settle(waiting, verdict)

    def _repeat(self, waiting: Waiting, stream: str, seen: Seen) -> None:
        """The first receipt again."""
        if seen.exact or not self._store.receipts_share_position:
            self._settle(waiting, Done(seen.revision, seen.position))
        else:
            self._spawn(self._look_up(waiting, stream, seen))

    async def _look_up(self, waiting: Waiting, stream: str, seen: Seen) -> None:
        try:
            position = await receipt_position(
                self._store, self._registry.prefixes, stream, seen.revision
            )
        except StoreUnavailable as error:
            self._settle(waiting, Unavailable(f"the event store does not answer: {error}"))
        else:
            self._settle(waiting, Done(seen.revision, position))

    def _settle(self, waiting: Waiting, outcome: Outcome) -> None:
        self._waiting -= 1
        self.commands += 1
        if not waiting.answer.done():
            waiting.answer.set_result(outcome)
