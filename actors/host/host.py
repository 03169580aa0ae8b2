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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from actors.envelope import Done, Envelope, Outcome
from actors.errors import (
    AggregateDeleted,
    DecisionFailed,
    EventStoreUnavailable,
    InvalidCommand,
    Overloaded,
    StreamUnreadable,
    Unavailable,
)
from actors.host.aggregate_cache import AggregateCache
from actors.host.entity import Entity
from actors.host.loading import receipt_position
from actors.host.plan import PendingCommand, Plan, Written, plan
from actors.host.recent_commands import Seen
from actors.host.snapshots import snapshot_stream
from actors.host.storage import EventStorage, Storage
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.port import Appended, AppendResult, Conflict, InvalidAppend, Log
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.registry import AggregateType

log = logging.getLogger(__name__)


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
        self._ready: dict[str, None] = {}
        self._busy: set[str] = set()  # streams being loaded, or in a commit
        self._stale: set[str] = set()  # of the busy ones, those that were deleted meanwhile
        self._deletions: dict[str, deque[asyncio.Event]] = {}  # each waits for its turn
        self._queued = 0
        self._commits = 0
        self._open_commits = 0
        self._loads = asyncio.Semaphore(self._limits.concurrent_loads)
        self._tasks: set[asyncio.Task[None]] = set()
        self.commands = 0
        self.conflicts = 0

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Wait until all of the commands have an outcome; return these, in order."""
        answers = [self._accept(envelope) for envelope in envelopes]
        self._start_commits()
        return [await answer for answer in answers]

    async def drain(self) -> None:
        """Wait until no command is queued or on its way, and snapshots are written."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks), return_exceptions=True)
        await self._cache.evict_all()

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        return {
            "aggregates": len(self._cache),
            "waiting": self._queued,
            "commands": self.commands,
            "rounds": self._commits,
            "conflicts": self.conflicts,
        }

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Evict aggregates that were idle for long, or are too many; return their number.

        Where the process has come to more than its bound in `resident_bytes`, evict a quarter.
        """
        keep = 0.75 if resident_bytes > self._limits.memory_bytes else 1.0
        return await self._cache.sweep(self._mailboxes, keep=keep)

    async def delete(self, stream: str, *, tombstone: bool) -> None:
        """Delete a stream and its snapshots, between two commands; see `Log.delete_stream`.

        Raises:
            StoreUnavailable, Unavailable: it may have been deleted, or its snapshots alone.
        """
        aggregate = self._registry.aggregates[stream.partition("-")[0]]
        if stream in self._busy:
            turn = asyncio.Event()
            self._deletions.setdefault(stream, deque()).append(turn)
            await turn.wait()
        self._busy.add(stream)
        self._ready.pop(stream, None)
        try:
            self._cache.drop(stream)
            await self._cache.saved()  # none may be written behind the deletion
            await self._store.delete_stream(snapshot_stream(stream), tombstone=tombstone)
            await self._store.delete_stream(stream, tombstone=tombstone)
            await self._storage.deleted(aggregate, stream)
        finally:
            self._cache.drop(stream)
            if not self._deletions.get(stream):
                self._deletions.pop(stream, None)
            self._return(stream)
            self._start_commits()

    def forget(self, stream: str) -> None:
        """Take no more for granted what is known of a stream, as somebody has deleted it."""
        if stream in self._busy:
            self._stale.add(stream)
        elif stream in self._cache:
            self._cache.drop(stream)
            if stream in self._ready:
                del self._ready[stream]
                self._make_ready(stream, optimistic=False)

    def forget_streams(self, gone: Callable[[str], bool]) -> None:
        """Take no more for granted what is known of some streams, as they had another writer.

        Appends would find out by their revision; a refusal is checked by nobody.
        """
        for stream in [*self._cache, *self._busy]:
            if gone(stream):
                self.forget(stream)

    # Arrival

    def _accept(self, envelope: Envelope) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        definition = self._registry.commands.get(envelope.command)
        if definition is None:
            answer.set_result(InvalidCommand(f"no command is named {envelope.command!r}"))
            return answer
        if self._queued >= self._limits.max_queued:
            answer.set_result(Overloaded())
            return answer
        try:
            command = definition.decode(envelope.payload)
        except ValidationError as error:
            answer.set_result(InvalidCommand(str(error)))
            return answer
        owner = self._registry.owner[definition.model]
        stream = envelope.stream
        mailbox = self._mailboxes.get(stream)
        if mailbox is None:
            mailbox = self._mailboxes[stream] = deque()
            self._owners[stream] = owner
        mailbox.append(PendingCommand(envelope, command, answer))
        self._queued += 1
        if stream not in self._busy:
            self._make_ready(stream, optimistic=definition.creates)
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
            self._fail(stream, EventStoreUnavailable(f"the event store does not answer: {error}"))
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
            self._answer(pending, error)
        self._cache.drop(stream)
        self._return(stream)

    def _return(self, stream: str) -> None:
        """Take the stream back: it is neither being loaded nor in a commit any more."""
        if stream in self._stale:
            self._stale.discard(stream)
            self._cache.drop(stream)
        deletions = self._deletions.get(stream)
        if deletions:
            deletions.popleft().set()  # the stream stays busy
            return
        self._busy.discard(stream)
        mailbox = self._mailboxes.get(stream)
        if mailbox:
            self._make_ready(stream, optimistic=False)
        else:
            self._mailboxes.pop(stream, None)
            self._owners.pop(stream, None)

    # Group commits

    def _start_commits(self) -> None:
        while self._ready and self._open_commits < self._limits.concurrent_commits:
            plans = self._next_commit()
            if plans:
                self._open_commits += 1
                self._spawn(self._commit(plans))

    def _next_commit(self) -> list[Plan]:
        """Decide on ready streams until the commit is full; answer what needs no write."""
        self._commits += 1
        writer = f"{self._incarnation}/{self._commits}"
        plans: list[Plan] = []
        events = size = 0
        while (
            self._ready and events < self._limits.commit_events and size < self._limits.commit_bytes
        ):
            stream = next(iter(self._ready))
            del self._ready[stream]
            mailbox = self._mailboxes[stream]
            count = min(len(mailbox), max(self._limits.commit_events - events, 1))
            planned = plan(self._cache.use(stream), self._take(mailbox, count), writer)
            self._busy.add(stream)
            if planned.refuses_unread:
                self._put_back(planned)
                self._cache.drop(stream)
                self._return(stream)
            elif planned.records:
                plans.append(planned)
                events += len(planned.records)
                size += sum(len(record.data) for record in planned.records)
            else:
                self._answer_all(planned, planned.entity.position)
                self._return(stream)
        return plans

    def _take(self, mailbox: deque[PendingCommand], count: int) -> list[PendingCommand]:
        """Return the next in a mailbox, without those for whose outcome nobody waits any more."""
        now = time.monotonic()
        taken = [mailbox.popleft() for _ in range(1 if mailbox[0].alone else count)]
        expired = [each for each in taken if each.envelope.deadline < now]
        for each in expired:
            self._answer(each, Unavailable("its deadline passed while it waited for its turn"))
        return [each for each in taken if each.envelope.deadline >= now] if expired else taken

    async def _commit(self, plans: list[Plan]) -> None:
        answers: Sequence[AppendResult] = ()
        failure: Exception | None = None
        try:
            answers = await self._storage.commit(plans)
        except StoreUnavailable as error:
            failure = EventStoreUnavailable(f"the event store does not answer: {error}")
        except Unavailable as error:
            failure = error
        except Exception as error:
            # Whatever it was, nobody may be left waiting without an answer.
            log.exception("a group commit failed")
            failure = Unavailable(f"the group commit failed: {error!r}")
        self._open_commits -= 1
        if failure is not None:
            for each in plans:
                self._put_back(each)
                self._fail(each.entity.stream, failure)
        for each, answer in zip(plans, answers, strict=False):
            if isinstance(answer, Appended):
                each.commit(answer.position, answer.last_revision)
                self._answer_all(each, answer.position)
                self._cache.changed(each.entity)
            elif isinstance(answer, InvalidAppend):
                self._refuse_invalid(each, answer)
            else:
                self.conflicts += 1
                self._retry_after_conflict(each, answer)
            self._return(each.entity.stream)
        self._start_commits()

    def _retry_after_conflict(self, planned: Plan, conflict: Conflict) -> None:
        """Fold and decide again, as another writer was faster and nothing of this was written."""
        stream = planned.entity.stream
        self._cache.drop(stream)
        for pending in planned.commands:
            pending.attempts += 1
        self._put_back(planned)
        mailbox = self._mailboxes[stream]
        while mailbox and mailbox[0].attempts >= self._limits.attempts:
            detail = f"another writer of {stream} was faster each time: {conflict.reason}"
            self._answer(mailbox.popleft(), Unavailable(detail))

    def _refuse_invalid(self, planned: Plan, answer: InvalidAppend) -> None:
        """Refuse the command whose events the store never takes; of several, find out which."""
        if len(planned.commands) > 1:
            for pending in planned.commands:
                pending.alone = True
            self._put_back(planned)
            return
        [pending] = planned.commands
        command = pending.envelope.command
        detail = f"{command}: the event store never takes what was decided: {answer.reason}"
        self._answer(pending, DecisionFailed(detail))

    def _put_back(self, planned: Plan) -> None:
        self._mailboxes[planned.entity.stream].extendleft(reversed(planned.commands))

    # Answers

    def _answer_all(self, planned: Plan, position: int) -> None:
        for pending, verdict in zip(planned.commands, planned.verdicts, strict=True):
            if isinstance(verdict, Written):
                self._answer(pending, Done(verdict.revision, position))
            elif isinstance(verdict, Seen):
                self._answer_repeat(pending, planned.entity.stream, verdict)
            else:
                self._answer(pending, verdict)

    def _answer_repeat(self, pending: PendingCommand, stream: str, seen: Seen) -> None:
        """Answer with the first receipt again."""
        if seen.exact or (seen.position and not self._store.receipts_share_position):
            self._answer(pending, Done(seen.revision, seen.position))
        else:
            self._spawn(self._answer_repeat_from_log(pending, stream, seen))

    async def _answer_repeat_from_log(
        self, pending: PendingCommand, stream: str, seen: Seen
    ) -> None:
        try:
            position = await receipt_position(
                self._store, self._registry.prefixes, stream, seen.revision
            )
        except StoreUnavailable as error:
            self._answer(
                pending, EventStoreUnavailable(f"the event store does not answer: {error}")
            )
        else:
            self._answer(pending, Done(seen.revision, position))

    def _answer(self, pending: PendingCommand, outcome: Outcome) -> None:
        self._queued -= 1
        self.commands += 1
        if not pending.answer.done():
            pending.answer.set_result(outcome)
