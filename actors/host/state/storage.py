"""The storage of state-stored aggregates: first the rows, then the log, then the receipt.

A group commit is one transaction: states, versions, command ids, and the events in an outbox. Right
after it, the events are appended to the log at the expected revisions, and the receipts get their
positions. If a writer dies in between, whoever loads the aggregate next, or finds an old outbox,
appends them. The version in the rows lets only one of our writers succeed; if another client has
written to a stream, the log decides: see `docs/adr`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from actors.errors import StreamUnreadable, Unavailable
from actors.host.entity import Entity
from actors.host.joint_plan import JointPlan
from actors.host.loading import load
from actors.host.plan import Plan
from actors.host.recent_commands import Seen
from actors.host.state.changes import (
    NOTHING,
    Stored,
    change_of,
    expected,
    rewritten,
    stored_after,
)
from actors.host.state.outbox import Relay
from actors.host.state.port import Change, Kept, States, StatesRefused
from actors.host.state.rows import Unstorable, check
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.personal.opening import Sealer, beneath, sealer_of
from eventstore.port import Appended, AppendResult, Conflict, InvalidAppend, Log, StreamAppend
from eventstore.records import RawRecord
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.aggregate import AggregateType
from rayfold.runtime.lasting import lasting
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

ORPHANED = 3.0
"""Seconds after which the writer of an outbox is presumed dead."""

TAKEN_OVER = 200
"""Streams whose outboxes are relayed for dead writers at a time."""

SETTLED_WITHIN = 0.5
"""Seconds until relayed events leave the outbox, unless the next commit removes them earlier."""


class StateStorage:
    """See `actors.host.storage.Storage`."""

    takes_snapshots = False

    def __init__(self, registry: Registry, eventstore: Log, states: States) -> None:
        self._registry = registry
        self._log = eventstore
        self._states = states
        self._relay = Relay(beneath(eventstore))
        self._sealed = sealer_of(eventstore)
        self._relayed: dict[str, int] = {}
        """By stream: the revision up to which events are on the log, though still in the outbox."""
        self._owed: dict[str, AggregateType] = {}
        """Streams whose events the log did not accept at the last attempt."""
        self._settling: asyncio.Task[None] | None = None
        self._taken_over = ""
        """The last stream that `take_over` relayed in this round; "" at the start of a round."""

    # Loading

    async def load(self, aggregate: AggregateType, stream: str) -> Entity:
        """See `Storage.load`."""
        kept = await self.relay(aggregate, stream)
        if kept is None:
            return await self._from_log(aggregate, stream, NOTHING)
        return await self._caught_up(aggregate, stream, kept)

    async def _from_log(self, aggregate: AggregateType, stream: str, stored: Stored) -> Entity:
        """Return the fold of all events: rows were never written, or are discarded."""
        entity = await load(self._log, self._registry, aggregate, stream)
        first = await self._relay.first_of(stream) if entity.revision >= 0 else 0
        entity.stored = stored._replace(began=first, whole=True)
        return entity

    async def _caught_up(self, aggregate: AggregateType, stream: str, kept: Kept) -> Entity:
        """Return the stored state with the events that other clients have appended since."""
        entity = Entity(aggregate, stream)
        entity.state, entity.revision = kept.state, kept.version
        for each in kept.commands:
            seen = Seen(each.fingerprint, each.revision, 0, False, each.at)
            entity.recent.add(each.command_id, seen)
        counted = kept.commands[-1].number + 1 if kept.commands else 0
        oldest = kept.commands[0].number if kept.commands else 0
        stored = Stored(kept.version, kept.began, kept.state, counted, oldest, False)
        entity.stored = stored
        after = kept.version - 1 if kept.version > 0 else None
        behind = False
        last: RawRecord | None = None
        turn = Turn()
        try:
            async with aclosing(self._log.read_stream(stream, after=after)) as records:
                async for raw in records:
                    await turn.pass_on()
                    if last is None and raw.revision != kept.version:
                        return await self._of_another_life(aggregate, stream, stored, raw.revision)
                    if last is None and not kept.current:
                        return await self._of_another_layout(aggregate, stream, stored, kept.misfit)
                    if last is not None:
                        entity.fold(self._registry, raw)  # of another client, unknown to the row
                        behind = True
                    entity.position = raw.position
                    last = raw
        except StreamTombstoned:
            await self._states.remove(aggregate, stream, kept.version)
            raise
        if last is None and await self._relay.was_deleted(stream, kept.version):
            return await self._of_another_life(aggregate, stream, stored, None)
        if last is None and not kept.current:
            return await self._of_another_layout(aggregate, stream, stored, kept.misfit)
        if behind:
            entity.stored = stored._replace(whole=True)
        return entity

    async def _of_another_life(
        self, aggregate: AggregateType, stream: str, stored: Stored, first: int | None
    ) -> Entity:
        """Return the aggregate as it is after a deletion that the rows do not reflect."""
        if first is not None and not await self._relay.was_deleted(stream, stored.version):
            raise StreamUnreadable(
                f"{stream} goes on at revision {first} on the log, its row is at {stored.version}:"
                " the events between were cut from the log before the row had them"
            )
        await self._states.remove(aggregate, stream, stored.version)
        return await self._from_log(aggregate, stream, NOTHING)

    async def _of_another_layout(
        self, aggregate: AggregateType, stream: str, stored: Stored, misfit: str
    ) -> Entity:
        """Return the fold of all events, because the row has another layout of the state."""
        if misfit:
            log.warning(
                "a row does not fit the model of its state",
                extra={"stream": stream, "error": misfit},
            )
        if await self._relay.first_of(stream) != stored.began:
            why, then = "has another layout", "run `rayfold migrate`"
            if misfit:
                why, then = f"does not fit the state's model ({misfit})", "make the model accept it"
            raise StreamUnreadable(
                f"the row of {stream} {why}, and its first events are not on the log any more:"
                f" {then}"
            )
        return await self._from_log(aggregate, stream, stored)

    async def first_of(self, stream: str) -> int:
        """Return the first revision that the log has of a stream; 0 if it has none."""
        return await self._relay.first_of(stream)

    async def fill(self, aggregate: AggregateType, stream: str, *, again: bool = False) -> bool:
        """Write an aggregate's row if it is missing or behind the log; return whether it was.

        `again`: write it in any case, if the log has all events of the aggregate.

        Raises what `load` raises.
        """
        entity = await self.load(aggregate, stream)
        stored: Stored = entity.stored
        if again and not stored.whole and await self._relay.first_of(stream) == stored.began:
            entity = await self._from_log(aggregate, stream, stored)
        if entity.revision < 0 or not entity.stored.whole:
            return False
        return await self._rewrite(entity, stored.version, stored.began)

    async def refill(self, aggregate: AggregateType, stream: str) -> None:
        """Rewrite the row of an aggregate, if there is one, from the log.

        Raises:
            StreamUnreadable: the events are no longer on the log, or cannot be read.
            StoreUnavailable, Unavailable: a store does not answer.
        """
        try:
            if await self.fill(aggregate, stream, again=True):
                return
        except StreamTombstoned:  # its row was removed with it
            return
        except (UnknownEventType, UnreadableEvent) as error:
            raise StreamUnreadable(str(error)) from error
        if await self._states.load(aggregate, stream) is not None:
            raise StreamUnreadable(
                f"the row of {stream} cannot be made again: it changed meanwhile, or its first"
                " events are not on the log any more"
            )

    async def _rewrite(self, entity: Entity, version: int, began: int) -> bool:
        """Rewrite the rows from the entity; return whether they were at `version`.

        Raises:
            StreamUnreadable: the rows cannot hold this state.
        """
        try:
            [done] = await self._states.commit([rewritten(entity, version, began)], {})
        except StatesRefused as error:
            raise StreamUnreadable(
                f"the state of {entity.stream!r} cannot be stored: {error}"
            ) from error
        return done

    # Committing

    async def commit(self, plans: Sequence[Plan | JointPlan]) -> list[AppendResult]:
        """See `Storage.commit`. Decisions over several aggregates never read state-stored ones."""
        return await self._commit([each for each in plans if isinstance(each, Plan)])

    async def _commit(self, plans: list[Plan]) -> list[AppendResult]:
        await self._pay()
        answers: list[AppendResult | None] = [None] * len(plans)
        changes: dict[int, Change] = {}
        for index, each in enumerate(plans):
            try:
                check(each.entity.aggregate.layout(), each.state)
                changes[index] = change_of(each)
            except Unstorable as error:
                answers[index] = InvalidAppend(str(error))
        if self._sealed is not None:
            changes = await self._with_sealed_records(changes, self._sealed, answers)
        try:
            written = await self._write(list(changes.values()))
        except StatesRefused as error:
            if len(plans) == 1:
                return [InvalidAppend(str(error), by_value=True)]
            # Postgres does not say which of them it refused.
            return [(await self._commit([each]))[0] for each in plans]
        kept: dict[int, Change] = {}
        for (index, change), done in zip(changes.items(), written, strict=True):
            if done:
                kept[index] = change
            else:
                answers[index] = Conflict("its row was changed meanwhile")
        for index, answer in (await self._append(kept)).items():
            answers[index] = answer
            if isinstance(answer, Appended):
                plans[index].entity.stored = stored_after(plans[index], changes[index], answer)
        return [each for each in answers if each is not None]

    async def _with_sealed_records(
        self, changes: dict[int, Change], sealed: Sealer, answers: list[AppendResult | None]
    ) -> dict[int, Change]:
        """Return changes with the personal data of their events encrypted, as the outbox stores it.

        Those for which that fails get their answer.
        """
        appends = [StreamAppend(each.stream, None, list(each.records)) for each in changes.values()]
        ready: dict[int, Change] = {}
        for (index, change), each in zip(changes.items(), await sealed(appends), strict=True):
            if isinstance(each, Conflict):
                answers[index] = each
            else:
                ready[index] = replace(change, records=each.records)
        return ready

    async def _write(self, changes: list[Change]) -> list[bool]:
        if not changes:
            return []
        taken, self._relayed = self._relayed, {}
        try:
            return await self._states.commit(changes, taken)
        except BaseException:
            self._relayed = taken | self._relayed
            raise

    async def _append(self, changes: dict[int, Change]) -> dict[int, AppendResult]:
        """Append the events of written changes to the log; return the results.

        Raises:
            StoreUnavailable: no answer; the events are in the outbox and will be appended later.
        """
        if not changes:
            return {}
        try:
            answers = await self._log.append(
                [StreamAppend(c.stream, expected(c), list(c.records)) for c in changes.values()]
            )
        except StoreUnavailable:
            self._owed |= {each.stream: each.aggregate for each in changes.values()}
            raise
        found: dict[int, AppendResult] = {}
        for (index, change), answer in zip(changes.items(), answers, strict=True):
            try:
                found[index] = await self._concluded(change, answer)
            except StreamUnreadable as error:  # the next load reports it
                found[index] = Conflict(str(error))
        self._settle_soon()
        return found

    async def _concluded(self, change: Change, answer: AppendResult) -> AppendResult:
        """Return the final answer, after adjusting the rows to it."""
        aggregate, stream = change.aggregate, change.stream
        if isinstance(answer, Conflict):
            first = change.version + 1 - len(change.records)
            position = await self._relay.position_of(
                stream, [(first + number, each) for number, each in enumerate(change.records)]
            )
            if position is not None:  # another writer has relayed it for us
                answer = Appended(position, change.version)
        if not isinstance(answer, Appended):
            before = change.version - len(change.records)
            await self._put_right(aggregate, stream, change.version, before)
        elif answer.last_revision not in (None, change.version):
            # The stream was deleted and its revisions continue: the rows must be renumbered.
            await self._renumber(change, answer.last_revision or 0)
        else:
            self._relayed[stream] = change.version
        return answer

    async def _renumber(self, change: Change, last: int) -> None:
        """Rewrite rows of a stream whose revisions the log has continued after a deletion."""
        shift = last - change.version
        again = Change(
            change.aggregate,
            change.stream,
            change.version,
            last,
            change.began + shift,
            None,
            change.state,
            commands=[c._replace(revision=c.revision + shift) for c in change.commands],
            whole=True,
            empties_outbox=True,
        )
        await self._states.commit([again], {})

    # The outbox

    async def take_over(self) -> int:
        """Relay what dead writers have left in the outbox; return how many streams that were.

        The next call continues after the last stream of this one, so that stuck streams do not hide
        others.

        Raises:
            StoreUnavailable, Unavailable: a store does not answer.
        """
        await self._settle()
        stored = {each.category: each for each in self._registry.state_stored}
        streams = await self._states.waiting(list(stored), ORPHANED, self._taken_over, TAKEN_OVER)
        for stream in streams:
            self._taken_over = stream  # also if it fails: it is tried again in the next round
            try:
                await self.relay(stored[stream.partition("-")[0]], stream)
            except StreamUnreadable as error:
                log.error(
                    "an outbox cannot be appended to the log",
                    extra={"stream": stream, "error": str(error)},
                )
        if len(streams) < TAKEN_OVER:
            self._taken_over = ""
        await self._settle()
        return len(streams)

    async def relay(self, aggregate: AggregateType, stream: str) -> Kept | None:
        """Append a stream's outbox to the log; return what is stored then.

        Raises:
            StreamUnreadable: the log has other events there, and the row cannot be made again.
            StoreUnavailable, Unavailable: a store does not answer.
        """
        kept = await self._states.load(aggregate, stream)
        if kept is None:
            return None
        outbox = [each for each in kept.outbox if each[0] > self._relayed.get(stream, -1)]
        if outbox:
            if await self._relay.append(stream, outbox, kept.began):
                self._relayed[stream] = outbox[-1][0]
                return kept
            return await self._put_right(aggregate, stream, kept.version, outbox[0][0] - 1)
        return kept

    async def _put_right(
        self, aggregate: AggregateType, stream: str, version: int, before: int
    ) -> Kept | None:
        """Rewrite the rows from the log, because another client's events are in the place of ours.

        No receipt was given for ours, the events after the revision `before`. Return what is stored
        then.

        Raises:
            StreamUnreadable: the log does not have all events of the stream.
            StoreUnavailable, Unavailable: a store does not answer.
        """
        log.warning("a state is made of the log again", extra={"stream": stream})
        try:
            first = await self._relay.first_of(stream)
            if first > 0 and not await self._relay.was_deleted(stream, before):
                raise StreamUnreadable(
                    f"another writer has written to {stream}, and its first events are not on the"
                    " log any more: its row cannot be made again"
                )
            entity = await load(self._log, self._registry, aggregate, stream)
        except StreamTombstoned:
            first, entity = 0, Entity(aggregate, stream)
        except (UnknownEventType, UnreadableEvent) as error:
            raise StreamUnreadable(str(error)) from error
        if entity.revision < 0:
            await self._states.remove(aggregate, stream, version)
        else:
            await self._rewrite(entity, version, first)
        return await self._states.load(aggregate, stream)

    async def _pay(self) -> None:
        """Relay events that the log did not accept before; until it does, nothing new is written.

        Raises:
            StoreUnavailable: the log still accepts nothing.
        """
        while self._owed:
            stream, aggregate = next(iter(self._owed.items()))
            with suppress(StreamUnreadable):  # the next load reports it
                await self.relay(aggregate, stream)
            self._owed.pop(stream, None)

    def _settle_soon(self) -> None:
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(lasting(self._settle_later, "settling outboxes"))

    async def _settle_later(self) -> None:
        while self._relayed:
            await asyncio.sleep(SETTLED_WITHIN)
            try:
                await self._settle()
            except Unavailable as error:
                log.info("an outbox is not settled", extra={"error": str(error)})

    async def _settle(self) -> None:
        if self._relayed:
            taken, self._relayed = self._relayed, {}
            try:
                await self._states.commit([], taken)
            except BaseException:
                self._relayed = taken | self._relayed
                raise

    async def deleted(self, aggregate: AggregateType, stream: str) -> None:
        """See `Storage.deleted`."""
        try:
            await self.load(aggregate, stream)  # this reads the log and removes the rows
        except StreamTombstoned:
            return

    async def close(self) -> None:
        """Remove relayed events from the outbox, and stop."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        try:
            await self._settle()
        except Unavailable as error:
            log.info("an outbox is not settled", extra={"error": str(error)})
