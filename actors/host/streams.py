"""The state of a host's streams: which wait, which can be decided, which are busy.

A stream is *busy* while its aggregate is folded from the log, while it is in a commit, and while
one task holds it alone, for example to delete it; only one of these at a time. It is *ready* once
it has commands, is in memory, and is not busy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from actors.errors import AggregateDeleted, EventStoreUnavailable, StreamUnreadable, Unavailable
from actors.host.aggregate_cache import AggregateCache
from actors.host.answers import Answers
from actors.host.entity import Entity
from actors.host.plan import JointDecision, PendingCommand
from actors.host.storage import Storage
from eventstore.errors import StoreUnavailable, StreamTombstoned
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.aggregate import AggregateType

log = logging.getLogger(__name__)


class Streams:
    """The streams of one host: their mailboxes, and how their aggregates are loaded into memory."""

    def __init__(
        self,
        registry: Registry,
        storage: Storage,
        cache: AggregateCache,
        answers: Answers,
        concurrent_loads: int,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        go_on: Callable[[], None],
    ) -> None:
        """`spawn` starts a task; `go_on` is called when a task may have made streams ready."""
        self._registry = registry
        self._storage = storage
        self._cache = cache
        self._answers = answers
        self._loads = asyncio.Semaphore(concurrent_loads)
        self._spawn = spawn
        self._go_on = go_on
        self.mailboxes: dict[str, deque[PendingCommand]] = {}
        self.ready: dict[str, None] = {}  # in the order in which they became ready
        self._busy: set[str] = set()
        self._owners: dict[str, AggregateType] = {}
        """The aggregate type of each stream that is being folded or has commands."""
        self._awaited: dict[str, dict[str, None]] = {}
        """By busy stream: the leading streams of decisions that also read it."""
        self._stale: set[str] = set()  # busy streams that were deleted meanwhile
        # Of tasks that wait to hold a stream alone.
        self._turns: dict[str, deque[asyncio.Event]] = {}

    def put(self, pending: PendingCommand, owner: AggregateType, *, optimistic: bool) -> None:
        """Put a command into its stream's mailbox; see `_make_ready` for `optimistic`."""
        if pending.joint is not None:
            self._bring_others(pending.joint)
        stream = pending.envelope.stream
        mailbox = self.mailboxes.get(stream)
        if mailbox is None:
            mailbox = self.mailboxes[stream] = deque()
            self._owners[stream] = owner
        mailbox.append(pending)
        if stream not in self._busy:
            self._make_ready(stream, optimistic=optimistic)

    def put_back(self, stream: str, commands: Sequence[PendingCommand]) -> None:
        """Return commands to the head of the mailbox that they were taken from."""
        self.mailboxes[stream].extendleft(reversed(commands))

    def take(self, stream: str, most: int) -> list[PendingCommand]:
        """Take the next commands of a mailbox, except those whose callers no longer wait."""
        mailbox = self.mailboxes[stream]
        now = time.monotonic()
        count = 1 if mailbox[0].alone else min(len(mailbox), most)
        taken = [mailbox.popleft() for _ in range(count)]
        expired = [each for each in taken if each.envelope.deadline < now]
        for each in expired:
            self._answers.give(
                each, Unavailable("its deadline passed while it waited for its turn")
            )
        return [each for each in taken if each.envelope.deadline >= now] if expired else taken

    def hold(self, stream: str) -> None:
        """Make a stream that is not busy busy, until it is released."""
        self._busy.add(stream)
        self.ready.pop(stream, None)

    @asynccontextmanager
    async def alone_with(self, stream: str) -> AsyncIterator[None]:
        """Hold a stream between two of its commands; the next command sees a new fold."""
        if stream in self._busy:
            await self._turn_with(stream)
        self.hold(stream)
        try:
            self._cache.drop(stream)
            yield
        finally:
            self._cache.drop(stream)
            self.release(stream)
            self._go_on()

    def release(self, stream: str) -> None:
        """Mark a stream as no longer busy, unless a task waits to hold it alone."""
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
        if self.mailboxes.get(stream):
            self._make_ready(stream, optimistic=False)
        else:
            self.mailboxes.pop(stream, None)
            self._owners.pop(stream, None)

    def release_all(self, entities: Sequence[Entity]) -> None:
        """Release each stream, the leading one last: then the others are available to it."""
        for entity in entities[1:]:
            self.release(entity.stream)
        self.release(entities[0].stream)

    def fail(self, stream: str, error: Exception) -> None:
        """Answer all commands waiting at a stream with the error; the next command tries again."""
        for pending in self.mailboxes.pop(stream, ()):
            self._answers.give(pending, error)
        for lead in self._awaited.pop(stream, ()):
            self._fail_readers(lead, stream, error)
        self._cache.drop(stream)
        self.release(stream)

    def forget(self, stream: str) -> None:
        """Drop a stream's cached state, now or after its commit; it is folded again."""
        if stream in self._busy:
            self._stale.add(stream)
        elif stream in self._cache:
            self._cache.drop(stream)
            if stream in self.ready:
                del self.ready[stream]
                self._make_ready(stream, optimistic=False)

    def forget_all(self, gone: Callable[[str], bool]) -> None:
        """Forget each stream for which `gone` is true."""
        for stream in [*self._cache, *self._busy]:
            if gone(stream):
                self.forget(stream)

    def catch_up(self, stream: str, revision: int) -> None:
        """Forget a stream if its cached state is older than this revision."""
        if stream not in self._busy and self._cache.is_behind(stream, revision):
            self.forget(stream)

    async def forget_known(self, knows: Callable[[str], bool]) -> None:
        """Forget each stream for which `knows` is true.

        Return once no commit that began earlier still uses the state that was in memory.
        """
        for stream in [*self._cache]:
            if stream not in self._busy and knows(stream):
                self.forget(stream)
        await asyncio.gather(*(self._drop_alone(each) for each in [*self._busy] if knows(each)))

    async def _drop_alone(self, stream: str) -> None:
        async with self.alone_with(stream):
            pass

    def warm(self, streams: Iterable[str]) -> None:
        """Start folding streams, so that their next commands need not wait for that."""
        for stream in streams:
            owner = self._registry.aggregates.get(stream.partition("-")[0])
            if owner is not None:
                self._bring(stream, owner)

    def _make_ready(self, stream: str, *, optimistic: bool) -> None:
        """Let the next commit decide on the stream once it is in memory.

        `optimistic`: without reading it, as if it did not exist; see `Entity.optimistic`.
        """
        if stream in self._cache:
            self.ready[stream] = None
        elif optimistic:
            self._cache.add(Entity(self._owners[stream], stream, optimistic=True))
            self.ready[stream] = None
        else:
            self._bring(stream, self._owners[stream])

    def _bring(self, stream: str, owner: AggregateType) -> None:
        """Start folding a stream, unless its aggregate is in memory or the stream is busy."""
        if stream not in self._cache and stream not in self._busy:
            self._owners[stream] = owner
            self.hold(stream)
            self._spawn(self._load(stream, owner))

    async def _load(self, stream: str, owner: AggregateType) -> None:
        try:
            async with self._loads:
                entity = await self._storage.load(owner, stream)
        except StoreUnavailable as error:
            self.fail(stream, EventStoreUnavailable.because(error))
        except (Unavailable, StreamUnreadable) as error:
            self.fail(stream, error)
        except StreamTombstoned:
            self.fail(stream, AggregateDeleted(stream))
        except (UnknownEventType, UnreadableEvent) as error:
            self.fail(stream, StreamUnreadable(str(error)))
        except (Exception, SystemExit) as error:
            # Whatever the error is: this aggregate refuses its commands, others are not affected.
            log.exception("loading an aggregate failed", extra={"stream": stream})
            self.fail(stream, StreamUnreadable(f"loading {stream} failed: {error!r}"))
        else:
            self._cache.add(entity)
            self.release(stream)
        self._go_on()

    async def _turn_with(self, stream: str) -> None:
        """Wait until a busy stream is held for this task alone."""
        turn = asyncio.Event()
        waiting = self._turns.setdefault(stream, deque())
        waiting.append(turn)
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():  # it was just given to us: pass it on to the next task
                self.release(stream)
                self._go_on()
            else:
                waiting.remove(turn)
            raise

    # Decisions over several aggregates

    def _bring_others(self, joint: JointDecision) -> None:
        """Start folding what a decision reads besides the leading aggregate."""
        for each in joint.others:
            self._bring(each.stream, each.aggregate)

    def at_hand(
        self, lead: str, commands: list[PendingCommand]
    ) -> tuple[list[PendingCommand], dict[str, Entity]]:
        """Return the commands of a mailbox whose aggregates are available, and these.

        The others wait at the head of the mailbox until theirs are. No stream is held while waiting
        for another, so there is no deadlock.
        """
        first = commands[0].attempts > 0
        entities = {lead: self._cache.use(lead)}
        names = {lead.lower()}
        taken: list[PendingCommand] = []
        left: list[PendingCommand] = []
        for pending in commands:
            # Commands that met a conflict are not decided with those that did not: their next
            # attempt may fail as well.
            others = pending.joint.others if pending.joint else ()
            wanted = [each.stream for each in others if each.stream not in entities]
            if (pending.attempts > 0) is not first or not self._is_at_hand(pending, lead):
                left.append(pending)
            elif names.isdisjoint(each.lower() for each in wanted):
                names.update(each.lower() for each in wanted)
                entities |= {each: self._cache.use(each) for each in wanted}
                taken.append(pending)
            else:
                left.append(pending)
        if left:
            self.put_back(lead, left)
        return taken, entities

    def _is_at_hand(self, pending: PendingCommand, lead: str) -> bool:
        """Return whether all that a command reads is in memory and free; if not, arrange for it."""
        if pending.joint is None:
            return True
        self._bring_others(pending.joint)
        for each in pending.joint.others:
            if each.stream in self._busy:
                self._awaited.setdefault(each.stream, {})[lead] = None
                return False
        return True

    def _wake(self, leads: Iterable[str]) -> None:
        """Resume the decisions that waited for a stream that is now free."""
        for lead in leads:
            if lead in self.mailboxes and lead not in self._busy:
                self._make_ready(lead, optimistic=False)

    def _fail_readers(self, lead: str, stream: str, error: Exception) -> None:
        """Answer the decisions that read a failed stream with its error."""
        waiting = self.mailboxes.get(lead, ())
        left: deque[PendingCommand] = deque()
        for each in waiting:
            if each.joint and any(other.stream == stream for other in each.joint.others):
                self._answers.give(each, error)
            else:
                left.append(each)
        if left:
            self.mailboxes[lead] = left
            self._wake([lead])
        elif lead not in self._busy:
            self.ready.pop(lead, None)
            self.mailboxes.pop(lead, None)
            self._owners.pop(lead, None)
        else:
            self.mailboxes[lead] = left
