"""Many aggregates in one event loop: one mailbox per aggregate, and group commits.

All waiting commands are decided together, stream by stream, and appended in one call to the store:
a group commit. While it is in progress, the next commands queue up, so commits grow with load and
an idle host adds no delay. A stream is in at most one commit at a time (see `Streams`), so its host
is its only writer. If a second host exists for a while, the expected revision on every append lets
one of them succeed; the other folds again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic import ValidationError

from actors.envelope import Envelope, Outcome, instances_of
from actors.errors import (
    DecisionFailed,
    EventStoreUnavailable,
    InvalidCommand,
    NeedsOwnActor,
    Overloaded,
    Unavailable,
    WriteSideError,
)
from actors.host.aggregate_cache import AggregateCache
from actors.host.answers import Answers
from actors.host.command_traces import CommandTraces
from actors.host.joint_plan import JointPlan, plan_jointly
from actors.host.limits import HostLimits
from actors.host.loading import moved_streams
from actors.host.plan import JointDecision, PendingCommand, Plan, decision_failed, plan
from actors.host.snapshots import snapshot_stream
from actors.host.storage import EventStorage, Storage
from actors.host.streams import Streams
from eventstore.errors import StoreUnavailable
from eventstore.port import (
    BEING_FORGOTTEN,
    Appended,
    AppendResult,
    Conflict,
    InvalidAppend,
    JointlyAppended,
    Log,
)
from rayfold import Registry
from rayfold.runtime.tracing import tracing
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

DECIDING = 0.02
"""Seconds of deciding before other tasks run; what is decided by then forms one commit."""


class Host:
    """The single writer of many aggregates; plain asyncio, on any `Log`."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        incarnation: str,
        limits: HostLimits | None = None,
        storage: Storage | None = None,
    ) -> None:
        """`incarnation` identifies this writer in every event; no two writers share one.

        `storage` loads and writes the aggregates; by default, from and to the log alone.
        """
        self._registry = registry
        self._log = log
        self._storage = storage or EventStorage(registry, log)
        self._incarnation = incarnation
        self._limits = limits or HostLimits()
        self._cache = AggregateCache(
            log if self._storage.takes_snapshots else None,
            self._limits.idle_timeout,
            self._limits.cached_aggregates,
        )
        self._decided_together = registry.decided_together
        self._commits = 0
        self._open_commits = 0
        self._turn: Turn | None = None
        """The turn in which decisions are being made, if any."""
        self._tasks: set[asyncio.Task[None]] = set()
        traced = tracing()
        self._traces = CommandTraces(traced) if traced is not None else None
        self._answers = Answers(log, registry.prefixes, self._spawn)
        self._streams = Streams(
            registry,
            self._storage,
            self._cache,
            self._answers,
            self._limits.concurrent_loads,
            self._spawn,
            self._start_commits,
        )
        self.conflicts = 0

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Wait until every command has an outcome; return the outcomes in order."""
        return [await outcome for outcome in self.begin(envelopes)]

    def begin(self, envelopes: Sequence[Envelope]) -> list[asyncio.Future[Outcome]]:
        """Accept commands; return a future for each outcome, in order."""
        answers = [self._accept(envelope) for envelope in envelopes]
        self._start_commits()
        return answers

    async def drain(self) -> None:
        """Wait until no command is queued or in progress and snapshots are written."""
        while self._tasks or self._turn is not None:
            await asyncio.gather(*self._tasks, asyncio.sleep(0), return_exceptions=True)
        await self._cache.evict_all()

    @property
    def busy(self) -> bool:
        """Whether a command is queued or in progress."""
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
        """Return up to `most` streams that are in memory, the most recently used."""
        return [*self._cache][-most:]

    def warm(self, streams: Iterable[str]) -> None:
        """Start folding streams, so that their next commands need not wait for that."""
        self._streams.warm(streams)

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Evict aggregates that are idle or over the limit; return how many.

        If the process uses more than its limit of memory (`resident_bytes`), evict a quarter.
        """
        keep = 0.75 if resident_bytes > self._limits.memory_bytes else 1.0
        return await self._cache.sweep(self._streams.mailboxes, keep=keep)

    async def delete(self, stream: str, *, tombstone: bool) -> bool:
        """Delete a stream and its snapshots between two commands; see `Log.delete_stream`.

        Raises:
            StoreUnavailable, Unavailable: the stream, or only its snapshots, may have been deleted.
        """
        aggregate = self._registry.aggregates[stream.partition("-")[0]]
        async with self.alone_with(stream):
            await self._cache.saved()  # no snapshot may be written after the deletion
            await self._log.delete_stream(snapshot_stream(stream), tombstone=tombstone)
            found = await self._log.delete_stream(stream, tombstone=tombstone)
            await self._storage.deleted(aggregate, stream)
            return found

    def alone_with(self, stream: str) -> AbstractAsyncContextManager[None]:
        """Hold a stream between two of its commands; the next command sees a new fold."""
        return self._streams.alone_with(stream)

    def forget(self, stream: str) -> None:
        """Discard the cached state of a stream that another client has deleted."""
        self._streams.forget(stream)

    def forget_streams(self, gone: Callable[[str], bool]) -> None:
        """Discard the cached state of streams that had another writer meanwhile.

        An append would fail on its expected revision, but nothing checks a refusal.
        """
        self._streams.forget_all(gone)

    def catch_up(self, stream: str, revision: int) -> None:
        """Discard the cached state of a stream if it is older than this revision.

        A decision of another host has written to the stream. This is only a hint: without it, an
        append would detect the change by its expected revision.
        """
        self._streams.catch_up(stream, revision)

    async def forget_known(self, knows: Callable[[str], bool]) -> None:
        """Discard the cached state of streams that hold data of a forgotten person.

        Return once no commit that was decided on that state, and no snapshot of it, is in progress.
        """
        await self._streams.forget_known(knows)
        await self._cache.saved()

    # Arrival

    def _accept(self, envelope: Envelope) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        definition = self._registry.commands.get(envelope.command)
        if definition is None:
            # The sender knows it: it runs another release, which is being rolled out.
            answer.set_result(Unavailable(f"this writer does not know {envelope.command!r} yet"))
            return answer
        if self._answers.owed >= self._limits.max_queued:
            answer.set_result(Overloaded())
            return answer
        try:
            command, unread = definition.decode_all(envelope.payload)
        except ValidationError:
            # The command has another shape in this release: the sender could read it.
            answer.set_result(Unavailable(f"this writer cannot read this {envelope.command!r}"))
            return answer
        except (Exception, SystemExit) as error:
            # The domain's validator failed, which the sender's release does not have.
            answer.set_result(decision_failed(error, envelope, -1))
            return answer
        if unread:
            answer.set_result(Unavailable.not_reading(envelope.command, unread))
            return answer
        joint = None
        if self._decided_together and definition.model in self._registry.decisions:
            decision = self._registry.decisions[definition.model]
            try:
                instances = instances_of(decision, command, envelope.tenant)
                joint = JointDecision(decision, instances)
            except WriteSideError as error:
                answer.set_result(error)
                return answer
        owner = self._registry.owner[definition.model]
        leads = envelope.stream if joint is None else joint.instances[0].stream
        if leads != envelope.stream or leads.partition("-")[0] != owner.category:
            # In the sender's release, another aggregate decides this command.
            answer.set_result(
                Unavailable(f"this writer has another aggregate for {envelope.command!r}")
            )
            return answer
        pending = PendingCommand(envelope, command, answer, joint=joint)
        if self._traces is not None and envelope.traceparent:
            pending.envelope, pending.span = self._traces.begin(envelope)
        self._answers.owed += 1
        self._streams.put(pending, owner, optimistic=definition.creates and joint is None)
        return answer

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Group commits

    def _start_commits(self) -> None:
        """Decide while the turn lasts; all calls within one pass of the event loop share a turn."""
        while self._streams.ready and self._open_commits < self._limits.concurrent_commits:
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
        """Decide on ready streams until the commit is full or the turn is over.

        Commands that need no write are answered.
        """
        self._commits += 1
        writer = f"{self._incarnation}/{self._commits}"
        streams = self._streams
        plans: list[Plan | JointPlan] = []
        events = size = 0
        while (
            streams.ready
            and events < self._limits.commit_events
            and size < self._limits.commit_bytes
            and not turn.over
        ):
            stream = next(iter(streams.ready))
            del streams.ready[stream]
            anothers = streams.mailboxes[stream][0].envelope.only_refuse
            commands = streams.take(stream, max(self._limits.commit_events - events, 1))
            if not commands:  # the deadlines of all have passed
                streams.hold(stream)
                if anothers:
                    self._cache.drop(stream)
                streams.release(stream)
                continue
            planned: Plan | JointPlan
            if self._decided_together and any(each.joint for each in commands):
                commands, entities = streams.at_hand(stream, commands)
                if not commands:
                    continue
                planned = plan_jointly(entities, commands, writer, turn)
                for each in planned.plans:
                    streams.hold(each)
            else:
                planned = plan(self._cache.use(stream), commands, writer, turn)
                streams.hold(stream)
            streams.put_back(stream, commands[len(planned.commands) :])
            if planned.is_unread:
                streams.put_back(stream, planned.commands)
                self._drop(planned)
                streams.release_all(planned.entities)
            elif _is_anothers(planned) and (planned.records or planned.entity.revision >= 0):
                self._pass_on(planned)
            elif planned.records:
                plans.append(planned)
                events += len(planned.records)
                size += sum(len(record.data) for record in planned.records)
            elif self._may_be_stale(planned):
                self._spawn(self._prove(planned))
            else:
                self._settle(planned)
        return plans

    def _pass_on(self, planned: Plan | JointPlan) -> None:
        """Leave commands to the dedicated actor if they would write, or if the aggregate exists.

        The dedicated actor may remember more commands than a fold does, and the stream may change
        between two reads.
        """
        mine = [each for each in planned.commands if not each.envelope.only_refuse]
        self._streams.put_back(planned.entity.stream, mine)
        for pending in planned.commands:
            if pending.envelope.only_refuse:
                self._answers.give(pending, NeedsOwnActor())
        self._cache.drop(planned.entity.stream)
        self._streams.release_all(planned.entities)

    def _settle(self, planned: Plan | JointPlan) -> None:
        """Answer a plan that writes nothing."""
        self._answers.give_all(planned, planned.entity.position)
        if _is_anothers(planned):
            # We are not told when it is deleted, so we could write a snapshot after the deletion.
            self._cache.drop(planned.entity.stream)
        self._streams.release_all(planned.entities)

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
            # Whatever the error is, every caller must get an answer.
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
                self._streams.release(each.entity.stream)
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
            self._streams.release_all(each.entities)
        self._start_commits()

    def _give_up(self, planned: Plan | JointPlan, error: Exception) -> None:
        """Answer a plan's commands, and those behind it, with the error: it may be written."""
        stream = planned.entity.stream
        self._streams.put_back(stream, planned.commands)
        self._drop(planned)
        for entity in planned.entities[1:]:
            self._streams.release(entity.stream)
        self._streams.fail(stream, error)

    def _retry_after_conflict(self, planned: Plan | JointPlan, conflict: Conflict) -> None:
        """Fold and decide again: another writer was faster and nothing of the plan was written.

        Commands that did not read the changed streams go first, and no attempt is counted for them.
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
        tired = {id(each) for each in harmed if each.attempts >= self._limits.attempts}
        self._streams.put_back(stream, [each for each in commands if id(each) not in tired])
        if tired:
            names = ", ".join(moved)
            detail = f"another writer of {names} was faster each time: {conflict.reason}"
            for pending in harmed:
                if id(pending) in tired:
                    self._answers.give(pending, Unavailable(detail))

    def _refuse_invalid(self, planned: Plan | JointPlan, answer: InvalidAppend) -> None:
        """Refuse the command whose events the store rejects; of several, find out which it is."""
        if (pending := self._only_command(planned)) is None:
            return
        command = pending.envelope.command
        if answer.by_value:
            self._answers.give(pending, InvalidCommand(f"{command}: {answer.reason}"))
            return
        detail = f"{command}: the event store refuses the decided events for good: {answer.reason}"
        self._answers.give(pending, DecisionFailed(detail))

    def _refuse_forgotten(self, planned: Plan | JointPlan) -> None:
        """Refuse a command about a person being forgotten; of several, find out which it is.

        It may succeed if it is sent again a second later.
        """
        self._drop(planned)
        if (pending := self._only_command(planned)) is not None:
            self._answers.give(pending, Unavailable(BEING_FORGOTTEN.reason))

    def _only_command(self, planned: Plan | JointPlan) -> PendingCommand | None:
        """Return a plan's only command; if there are several, requeue them to be decided singly."""
        if len(planned.commands) == 1:
            return planned.commands[0]
        for pending in planned.commands:
            pending.alone = True
        self._streams.put_back(planned.entity.stream, planned.commands)
        return None

    def _drop(self, planned: Plan | JointPlan) -> None:
        for entity in planned.entities:
            self._cache.drop(entity.stream)

    def _may_be_stale(self, planned: Plan | JointPlan) -> bool:
        """Return whether another writer may have changed what a refusal is based on.

        The store checks an append, but nothing checks a refusal. Other writers are the host of the
        leading aggregate, which writes decisions over several aggregates, and a dedicated actor,
        which writes its aggregate.
        """
        return planned.is_unproven and (
            planned.entity.aggregate in self._decided_together or _is_anothers(planned)
        )

    async def _prove(self, planned: Plan | JointPlan) -> None:
        """Answer a plan that writes nothing, if its streams have not changed since it read them."""
        try:
            moved = await moved_streams(self._log, planned.entities)
        except StoreUnavailable as error:
            self._give_up(planned, EventStoreUnavailable.because(error))
        except Exception as error:
            log.exception("a refusal could not be proven")
            self._give_up(planned, Unavailable(f"the refusal could not be proven: {error!r}"))
        else:
            if moved:
                reason = "it was written to meanwhile"
                self._retry_after_conflict(planned, Conflict(reason, moved))
                self._streams.release_all(planned.entities)
            else:
                self._settle(planned)
        self._start_commits()


def _is_anothers(planned: Plan | JointPlan) -> bool:
    """Return whether another actor is the writer of the leading aggregate: see `only_refuse`."""
    return any(each.envelope.only_refuse for each in planned.commands)
