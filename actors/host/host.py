"""Many aggregates in one event loop: a mailbox each, and group commits.

All commands that wait are decided at once, stream by stream, and appended in one call to the
store: a group commit. While it is on its way the next commands gather, so that commits grow
with load and an idle host adds no delay. A stream is in at most one commit at a time, which
makes its host the single writer as long as there is one; when there are two, the expected
revision on every append lets one of them through, and the other folds again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from actors.envelope import Envelope, Outcome, instances_of
from actors.errors import (
    AggregateDeleted,
    DecisionFailed,
    EventStoreUnavailable,
    InvalidCommand,
    Overloaded,
    StreamUnreadable,
    Unavailable,
    WriteSideError,
)
from actors.host.aggregate_cache import AggregateCache
from actors.host.answers import Answers
from actors.host.command_traces import CommandTraces
from actors.host.entity import Entity
from actors.host.joint_plan import JointPlan, plan_jointly
from actors.host.loading import moved_streams
from actors.host.plan import JointDecision, PendingCommand, Plan, plan
from actors.host.snapshots import snapshot_stream
from actors.host.storage import EventStorage, Storage
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.port import (
    BEING_FORGOTTEN,
    Appended,
    AppendResult,
    Conflict,
    InvalidAppend,
    JointlyAppended,
    Log,
)
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.registry import AggregateType
from rayfold.runtime.tracing import tracing
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

DECIDING = 0.02
"""Seconds for decisions before others have their turn; what is decided by then is one commit."""


@dataclass(frozen=True)
class HostLimits:
    """Bounds of a host. Sizes are in events or bytes, times in seconds."""

    max_queued: int = 10_000
    """Commands in all mailboxes; beyond that they are refused at once."""
    commit_events: int = 500
    commit_bytes: int = 512 * 1024
    concurrent_commits: int = 2
    """On their way to the store at a time: one is decided while one is written."""
    attempts: int = 5
    """How often a command is decided before its host gives up against another writer."""
    concurrent_loads: int = 32
    """Aggregates that are being folded from the log at a time."""
    idle_timeout: float = 300.0
    """Seconds after which an aggregate without commands leaves memory."""
    cached_aggregates: int = 200_000
    """Aggregates in memory; the least recently used leave first."""
    memory_bytes: int = 2 * 1024**3
    """Bytes of the process; above that the least recently used quarter leaves, again and again."""


class Host:
    """The single writer of many aggregates; plain asyncio, on any `Log`."""

    def __init__(
        self,
        registry: Registry,
        store: Log,
        incarnation: str,
        limits: HostLimits | None = None,
        storage: Storage | None = None,
    ) -> None:
        """`incarnation` names this writer on every event; no two writers share one.

        `storage` has the aggregates: by default the log alone.
        """
        self._registry = registry
        self._store = store
        self._storage = storage or EventStorage(registry, store)
        self._incarnation = incarnation
        self._limits = limits or HostLimits()
        self._cache = AggregateCache(
            store if self._storage.takes_snapshots else None,
            self._limits.idle_timeout,
            self._limits.cached_aggregates,
        )
        self._mailboxes: dict[str, deque[PendingCommand]] = {}
        self._owners: dict[str, AggregateType] = {}
        self._decided_together = registry.decided_together
        self._awaited: dict[str, dict[str, None]] = {}
        """Streams that are busy, with those whose decisions read them too."""
        self._ready: dict[str, None] = {}
        self._busy: set[str] = set()  # streams being loaded, or in a commit
        self._stale: set[str] = set()  # of the busy ones, those that were deleted meanwhile
        self._turns: dict[str, deque[asyncio.Event]] = {}  # of who wants a stream alone
        self._commits = 0
        self._open_commits = 0
        self._turn: Turn | None = None
        """In which decisions are made; none where there are none."""
        self._loads = asyncio.Semaphore(self._limits.concurrent_loads)
        self._tasks: set[asyncio.Task[None]] = set()
        traced = tracing()
        self._traces = CommandTraces(traced) if traced is not None else None
        self._answers = Answers(store, registry.prefixes, self._spawn)
        self.conflicts = 0

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Wait until all of the commands have an outcome; return these, in order."""
        return [await outcome for outcome in self.begin(envelopes)]

    def begin(self, envelopes: Sequence[Envelope]) -> list[asyncio.Future[Outcome]]:
        """Take the commands in; return their outcomes to come, in order."""
        answers = [self._accept(envelope) for envelope in envelopes]
        self._start_commits()
        return answers

    async def drain(self) -> None:
        """Wait until no command is queued or on its way, and snapshots are written."""
        while self._tasks or self._turn is not None:
            await asyncio.gather(*self._tasks, asyncio.sleep(0), return_exceptions=True)
        await self._cache.evict_all()

    @property
    def busy(self) -> bool:
        """Whether a command is queued or on its way."""
        return bool(self._answers.owed or self._tasks)

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        return {
            "aggregates": len(self._cache),
            "waiting": self._answers.owed,
            "commands": self._answers.given,
            "rounds": self._commits,
            "conflicts": self.conflicts,
        }

    def hot(self, most: int) -> list[str]:
        """Return so many streams that are in memory, those that were used last."""
        return [*self._cache][-most:]

    def warm(self, streams: Iterable[str]) -> None:
        """Begin to fold streams, so that their next commands need not wait for it."""
        for stream in streams:
            owner = self._registry.aggregates.get(stream.partition("-")[0])
            if owner is None or stream in self._cache or stream in self._busy:
                continue
            self._owners[stream] = owner
            self._busy.add(stream)
            self._spawn(self._load(stream))

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Evict aggregates that were idle for long, or are too many; return their number.

        Where the process has come to more than its bound in `resident_bytes`, evict a quarter.
        """
        keep = 0.75 if resident_bytes > self._limits.memory_bytes else 1.0
        return await self._cache.sweep(self._mailboxes, keep=keep)

    async def delete(self, stream: str, *, tombstone: bool) -> bool:
        """Delete a stream and its snapshots, between two commands; see `Log.delete_stream`.

        Raises:
            StoreUnavailable, Unavailable: it may have been deleted, or its snapshots alone.
        """
        aggregate = self._registry.aggregates[stream.partition("-")[0]]
        async with self.alone_with(stream):
            await self._cache.saved()  # none may be written behind the deletion
            await self._store.delete_stream(snapshot_stream(stream), tombstone=tombstone)
            found = await self._store.delete_stream(stream, tombstone=tombstone)
            await self._storage.deleted(aggregate, stream)
            return found

    @asynccontextmanager
    async def alone_with(self, stream: str) -> AsyncIterator[None]:
        """Hold a stream between two of its commands; the next one is decided on another fold."""
        if stream in self._busy:
            await self._turn_with(stream)
        self._busy.add(stream)
        self._ready.pop(stream, None)
        try:
            self._cache.drop(stream)
            yield
        finally:
            self._cache.drop(stream)
            self._return(stream)
            self._start_commits()

    async def _turn_with(self, stream: str) -> None:
        """Wait until a busy stream is held for us, and for nothing else."""
        turn = asyncio.Event()
        waiting = self._turns.setdefault(stream, deque())
        waiting.append(turn)
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():  # just now: whoever is next must not wait for what nobody does
                self._return(stream)
                self._start_commits()
            else:
                waiting.remove(turn)
            raise

    def forget(self, stream: str) -> None:
        """Take no more for granted what is known of a stream, as somebody has deleted it."""
        if stream in self._busy:
            self._stale.add(stream)
        elif stream in self._cache:
            self._cache.drop(stream)
            if stream in self._ready:
                del self._ready[stream]
                self._make_ready(stream, optimistic=False)

    def catch_up(self, stream: str, revision: int) -> None:
        """Take no more for granted what is known of a stream, if that is from before a revision.

        A decision of another host has written to it. A hint: an append would find out by itself.
        """
        if stream not in self._busy and self._cache.is_behind(stream, revision):
            self.forget(stream)

    def forget_streams(self, gone: Callable[[str], bool]) -> None:
        """Take no more for granted what is known of some streams, as they had another writer.

        Appends would find out by their revision; a refusal is checked by nobody.
        """
        for stream in [*self._cache, *self._busy]:
            if gone(stream):
                self.forget(stream)

    async def forget_known(self, knows: Callable[[str], bool]) -> None:
        """Know nothing any more of some streams, as somebody in them is forgotten.

        Return when nothing of them is on its way that was decided on what was known, and no
        snapshot.
        """
        for stream in [*self._cache]:
            if stream not in self._busy and knows(stream):
                self.forget(stream)
        await asyncio.gather(*(self._drop_alone(each) for each in [*self._busy] if knows(each)))
        await self._cache.saved()

    async def _drop_alone(self, stream: str) -> None:
        async with self.alone_with(stream):
            pass

    # Arrival

    def _accept(self, envelope: Envelope) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        definition = self._registry.commands.get(envelope.command)
        if definition is None:
            # Whoever has sent it knows it: code of another release, which is being rolled out.
            answer.set_result(Unavailable(f"this writer knows no {envelope.command!r} yet"))
            return answer
        if self._answers.owed >= self._limits.max_queued:
            answer.set_result(Overloaded())
            return answer
        try:
            command = definition.decode(envelope.payload)
        except ValidationError as error:
            answer.set_result(InvalidCommand(str(error)))
            return answer
        owner = self._registry.owner[definition.model]
        joint = None
        if self._decided_together and definition.model in self._registry.decisions:
            decision = self._registry.decisions[definition.model]
            try:
                instances = instances_of(decision, command, envelope.tenant)
                joint = JointDecision(decision, instances)
            except WriteSideError as error:
                answer.set_result(error)
                return answer
            self._load_others(joint)
        stream = envelope.stream
        mailbox = self._mailboxes.get(stream)
        if mailbox is None:
            mailbox = self._mailboxes[stream] = deque()
            self._owners[stream] = owner
        pending = PendingCommand(envelope, command, answer, joint=joint)
        if self._traces is not None and envelope.traceparent:
            pending.envelope, pending.span = self._traces.begin(envelope)
        mailbox.append(pending)
        self._answers.owed += 1
        if stream not in self._busy:
            self._make_ready(stream, optimistic=definition.creates and joint is None)
        return answer

    def _make_ready(self, stream: str, *, optimistic: bool) -> None:
        """Let the next commit decide on the stream, once it is in memory.

        `optimistic`: without reading it, as if it did not exist; see `Entity.optimistic`.
        """
        if stream in self._cache:
            self._ready[stream] = None
        elif optimistic:
            self._cache.add(Entity(self._owners[stream], stream, optimistic=True))
            self._ready[stream] = None
        else:
            self._busy.add(stream)
            self._spawn(self._load(stream))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, stream: str) -> None:
        try:
            async with self._loads:
                entity = await self._storage.load(self._owners[stream], stream)
        except StoreUnavailable as error:
            self._fail(stream, EventStoreUnavailable.because(error))
        except (Unavailable, StreamUnreadable) as error:
            self._fail(stream, error)
        except StreamTombstoned:
            self._fail(stream, AggregateDeleted(stream))
        except (UnknownEventType, UnreadableEvent) as error:
            self._fail(stream, StreamUnreadable(str(error)))
        except (Exception, SystemExit) as error:
            # An author's `evolve` or upcaster broke: that aggregate refuses, others go on.
            log.exception("folding an aggregate failed", extra={"stream": stream})
            self._fail(stream, StreamUnreadable(f"folding {stream} failed: {error!r}"))
        else:
            self._cache.add(entity)
            self._return(stream)
        self._start_commits()

    def _fail(self, stream: str, error: Exception) -> None:
        """Answer all that waits at the stream with the error; the next command tries again."""
        for pending in self._mailboxes.pop(stream, ()):
            self._answers.give(pending, error)
        for lead in self._awaited.pop(stream, ()):
            self._fail_readers(lead, stream, error)
        self._cache.drop(stream)
        self._return(stream)

    def _return(self, stream: str) -> None:
        """Take the stream back: it is neither being loaded nor in a commit any more."""
        if stream in self._stale:
            self._stale.discard(stream)
            self._cache.drop(stream)
        if self._turns:
            if turns := self._turns.get(stream):
                turns.popleft().set()  # the stream stays busy
                return
            self._turns.pop(stream, None)
        self._busy.discard(stream)
        if self._awaited:
            self._wake(self._awaited.pop(stream, ()))
        mailbox = self._mailboxes.get(stream)
        if mailbox:
            self._make_ready(stream, optimistic=False)
        else:
            self._mailboxes.pop(stream, None)
            self._owners.pop(stream, None)

    # Group commits

    def _start_commits(self) -> None:
        """Decide as long as this turn allows: it is one with all calls in one pass of the loop."""
        while self._ready and self._open_commits < self._limits.concurrent_commits:
            if self._turn is None:
                self._turn = Turn(DECIDING)
                asyncio.get_running_loop().call_soon(self._end_turn)
            elif self._turn.over:
                return
            plans = self._next_commit(self._turn)
            if plans:
                self._open_commits += 1
                self._spawn(self._commit(plans))

    def _end_turn(self) -> None:
        self._turn = None
        self._start_commits()

    def _next_commit(self, turn: Turn) -> list[Plan | JointPlan]:
        """Decide on ready streams until the commit is full, or the turn is over.

        What needs no write is answered.
        """
        self._commits += 1
        writer = f"{self._incarnation}/{self._commits}"
        plans: list[Plan | JointPlan] = []
        events = size = 0
        while (
            self._ready
            and events < self._limits.commit_events
            and size < self._limits.commit_bytes
            and not turn.over
        ):
            stream = next(iter(self._ready))
            del self._ready[stream]
            mailbox = self._mailboxes[stream]
            count = min(len(mailbox), max(self._limits.commit_events - events, 1))
            commands = self._take(mailbox, count)
            planned: Plan | JointPlan | None
            if self._decided_together and any(each.joint for each in commands):
                planned = self._plan_jointly(stream, commands, writer, turn)
                if planned is None:
                    continue
            else:
                planned = plan(self._cache.use(stream), commands, writer, turn)
                self._put_back(stream, commands[len(planned.commands) :])
            self._busy.add(stream)
            if planned.refuses_unread:
                self._put_back(stream, planned.commands)
                self._drop(planned)
                self._return_all(planned)
            elif planned.records:
                plans.append(planned)
                events += len(planned.records)
                size += sum(len(record.data) for record in planned.records)
            elif self._may_be_stale(planned):
                self._spawn(self._prove(planned))
            else:
                self._answers.give_all(planned, planned.entity.position)
                self._return_all(planned)
        return plans

    def _take(self, mailbox: deque[PendingCommand], count: int) -> list[PendingCommand]:
        """Return the next in a mailbox, without those for whose outcome nobody waits any more."""
        now = time.monotonic()
        taken = [mailbox.popleft() for _ in range(1 if mailbox[0].alone else count)]
        expired = [each for each in taken if each.envelope.deadline < now]
        for each in expired:
            self._answers.give(
                each, Unavailable("its deadline passed while it waited for its turn")
            )
        return [each for each in taken if each.envelope.deadline >= now] if expired else taken

    async def _commit(self, plans: list[Plan | JointPlan]) -> None:
        answers: Sequence[AppendResult] = ()
        failure: Exception | None = None
        appending = self._traces.appending(plans) if self._traces is not None else ()
        try:
            answers = await self._storage.commit(plans)
        except StoreUnavailable as error:
            failure = EventStoreUnavailable.because(error)
        except Unavailable as error:
            failure = error
        except Exception as error:
            # Whatever it was, nobody may be left waiting without an answer.
            log.exception("a group commit failed")
            failure = Unavailable(f"the group commit failed: {error!r}")
        self._open_commits -= 1
        for span in appending:
            span.end(failure)
        if failure is not None:
            for each in plans:
                self._give_up(each, failure)
        for each, answer in zip(plans, answers, strict=False):
            if isinstance(answer, Appended):
                assert isinstance(each, Plan)
                each.commit(answer.position, answer.last_revision)
                self._answers.give_all(each, answer.position)
                self._cache.changed(each.entity)
                self._return(each.entity.stream)
                continue
            if isinstance(answer, JointlyAppended):
                assert isinstance(each, JointPlan)
                each.commit(answer)
                self._answers.give_all(each, answer.position)
                for entity in each.entities:
                    self._cache.changed(entity)
            elif isinstance(answer, InvalidAppend):
                self._refuse_invalid(each, answer)
            elif answer == BEING_FORGOTTEN:
                self._refuse_forgotten(each)
            else:
                self._retry_after_conflict(each, answer)
            self._return_all(each)
        self._start_commits()

    def _give_up(self, planned: Plan | JointPlan, error: Exception) -> None:
        """Answer all of a plan, and what waits behind it, with the error: it may be in the log."""
        stream = planned.entity.stream
        self._put_back(stream, planned.commands)
        self._drop(planned)
        for entity in planned.entities[1:]:
            self._return(entity.stream)
        self._fail(stream, error)

    def _retry_after_conflict(self, planned: Plan | JointPlan, conflict: Conflict) -> None:
        """Fold and decide again, as another writer was faster and nothing of this was written.

        What did not read the streams that have moved goes first, and is not counted.
        """
        self.conflicts += 1
        stream, commands = planned.entity.stream, planned.commands
        moved = conflict.streams or [entity.stream for entity in planned.entities]
        for each in moved:
            self._cache.drop(each)
        harmed = planned.readers_of(moved) if isinstance(planned, JointPlan) else commands
        if len(harmed) < len(commands):
            spared = {id(each) for each in harmed}
            commands = [each for each in commands if id(each) not in spared] + harmed
        for pending in harmed:
            pending.attempts += 1
        self._put_back(stream, commands)
        tired = [each for each in harmed if each.attempts >= self._limits.attempts]
        if tired:
            names = ", ".join(moved)
            detail = f"another writer of {names} was faster each time: {conflict.reason}"
            gone = {id(each) for each in tired}
            waiting = self._mailboxes[stream]
            self._mailboxes[stream] = deque(each for each in waiting if id(each) not in gone)
            for pending in tired:
                self._answers.give(pending, Unavailable(detail))

    def _refuse_invalid(self, planned: Plan | JointPlan, answer: InvalidAppend) -> None:
        """Refuse the command whose events the store never takes; of several, find out which."""
        if (pending := self._only_command(planned)) is None:
            return
        command = pending.envelope.command
        if answer.by_value:
            self._answers.give(pending, InvalidCommand(f"{command}: {answer.reason}"))
            return
        detail = f"{command}: the event store never takes what was decided: {answer.reason}"
        self._answers.give(pending, DecisionFailed(detail))

    def _refuse_forgotten(self, planned: Plan | JointPlan) -> None:
        """Refuse the command that tells of somebody, for a second; of several, find out which."""
        self._drop(planned)
        if (pending := self._only_command(planned)) is not None:
            self._answers.give(pending, Unavailable(BEING_FORGOTTEN.reason))

    def _only_command(self, planned: Plan | JointPlan) -> PendingCommand | None:
        """Return the command of a plan; of several none: each is decided alone from now on."""
        if len(planned.commands) == 1:
            return planned.commands[0]
        for pending in planned.commands:
            pending.alone = True
        self._put_back(planned.entity.stream, planned.commands)
        return None

    def _put_back(self, stream: str, commands: Sequence[PendingCommand]) -> None:
        self._mailboxes[stream].extendleft(reversed(commands))

    def _drop(self, planned: Plan | JointPlan) -> None:
        for entity in planned.entities:
            self._cache.drop(entity.stream)

    def _return_all(self, planned: Plan | JointPlan) -> None:
        for entity in planned.entities[1:]:
            self._return(entity.stream)
        self._return(planned.entity.stream)

    # Decisions over several aggregates

    def _load_others(self, joint: JointDecision) -> None:
        """Begin to fold what a decision reads beside the aggregate that leads."""
        for _, aggregate, stream in joint.others:
            if stream not in self._cache and stream not in self._busy:
                self._owners.setdefault(stream, aggregate)
                self._busy.add(stream)
                self._ready.pop(stream, None)
                self._spawn(self._load(stream))

    def _plan_jointly(
        self, stream: str, commands: list[PendingCommand], writer: str, turn: Turn
    ) -> JointPlan | None:
        """Decide on the commands of a mailbox for which all that they read is at hand.

        The others wait, at the head of the mailbox, until it is. None: all of them do. No stream
        is held while another is waited for, so that nothing waits in a circle.
        """
        first = commands[0].attempts > 0
        entities = {stream: self._cache.use(stream)}
        names = {stream.lower()}
        taken: list[PendingCommand] = []
        left: list[PendingCommand] = []
        for pending in commands:
            # What has met a conflict goes without what has not: the next may hold it up as well.
            others = pending.joint.others if pending.joint else ()
            wanted = [each.stream for each in others if each.stream not in entities]
            if (pending.attempts > 0) is not first or not self._are_at_hand(pending, stream):
                left.append(pending)
            elif names.isdisjoint(each.lower() for each in wanted):
                names.update(each.lower() for each in wanted)
                entities |= {each: self._cache.use(each) for each in wanted}
                taken.append(pending)
            else:
                left.append(pending)
        if left:
            self._put_back(stream, left)
        if not taken:
            return None
        planned = plan_jointly(entities, taken, writer, turn)
        self._put_back(stream, taken[len(planned.commands) :])
        for each in planned.plans:
            self._busy.add(each)
            self._ready.pop(each, None)
        return planned

    def _are_at_hand(self, pending: PendingCommand, lead: str) -> bool:
        """Tell whether all that a command reads is in memory and free; see to it if not."""
        if pending.joint is None:
            return True
        self._load_others(pending.joint)
        for each in pending.joint.others:
            if each.stream in self._busy:
                self._awaited.setdefault(each.stream, {})[lead] = None
                return False
        return True

    def _wake(self, leads: Iterable[str]) -> None:
        """Let decisions go on for which a stream has become free."""
        for lead in leads:
            if lead in self._mailboxes and lead not in self._busy:
                self._make_ready(lead, optimistic=False)

    def _fail_readers(self, lead: str, stream: str, error: Exception) -> None:
        """Answer the decisions that read a stream with the error that it met."""
        waiting = self._mailboxes.get(lead, ())
        left: deque[PendingCommand] = deque()
        for each in waiting:
            if each.joint and any(other.stream == stream for other in each.joint.others):
                self._answers.give(each, error)
            else:
                left.append(each)
        if left:
            self._mailboxes[lead] = left
            self._wake([lead])
        elif lead not in self._busy:
            self._ready.pop(lead, None)
            self._mailboxes.pop(lead, None)
            self._owners.pop(lead, None)
        else:
            self._mailboxes[lead] = left

    def _may_be_stale(self, planned: Plan | JointPlan) -> bool:
        """Tell whether others may have written to what a refusal rests on.

        An append is checked by the store; a refusal is checked by nobody. And decisions over
        several aggregates are written by the host of the one that leads.
        """
        return (
            bool(self._decided_together)
            and planned.entity.aggregate in self._decided_together
            and planned.is_unproven
        )

    async def _prove(self, planned: Plan | JointPlan) -> None:
        """Answer a plan that writes nothing, if its streams are where they were read."""
        try:
            moved = await moved_streams(self._store, planned.entities)
        except StoreUnavailable as error:
            self._give_up(planned, EventStoreUnavailable.because(error))
        except Exception as error:
            log.exception("a refusal could not be proven")
            self._give_up(planned, Unavailable(f"the refusal could not be proven: {error!r}"))
        else:
            if moved:
                reason = "it was written to meanwhile"
                self._retry_after_conflict(planned, Conflict(reason, moved))
            else:
                self._answers.give_all(planned, planned.entity.position)
            self._return_all(planned)
        self._start_commits()
