"""Running a publication: follow the log, and deliver in the order of each key.

Events of one key form a *lane*, and are delivered one after the other; lanes are independent. If an
event is not accepted, its lane retries with growing pauses. After a while the key is *parked*,
which is recorded on the log: then none of it is held in memory, and all others go on. The events
behind it are found by reading the log again from there: on an operator's request, and periodically.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from contextlib import aclosing, suppress
from typing import Any

from eventstore.errors import StoreUnavailable
from eventstore.one_record import record_at
from eventstore.port import Log
from eventstore.records import RawRecord
from projections.errors import NoSuchPublication
from projections.publications.deliveries import Deliveries
from projections.publications.errors import NotDelivered, Unpublishable
from projections.publications.lanes import Lane, Waiting
from projections.publications.outgoing import Derivation, Outgoing
from projections.publications.parked_keys import ParkedKeys
from projections.publications.receiver import Receiver
from projections.publications.records import Parked, PublicationRecords, lane_of, now_text
from projections.publications.sending_again import again, parked_in, send_again
from projections.publications.settings import Patience
from projections.publications.window import Pending, Window
from rayfold import PublicationDefinition, Registry
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import cancel, ended, together
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""The most events that were read and not accepted; above that, the log is not read on."""

RETRY = 1.0
"""Seconds until a broken subscription to the log is restarted."""

CHECKPOINT_INTERVAL = 1.0
IDLE_CHECKPOINT_INTERVAL = 60.0
"""Seconds between two checkpoints; the second value applies if nothing was published."""

PROBES = 3
"""Parked keys that are tried one after the other; once one is accepted, all others are tried
too.
"""


class Publisher:
    """Runs one publication. All events up to `position` are accepted, or parked."""

    def __init__(
        self,
        registry: Registry,
        definition: PublicationDefinition,
        log: Log,
        receiver: Receiver,
        *,
        source: str,
        patience: Patience | None = None,
        connections: int = 16,
    ) -> None:
        self.definition = definition
        self.error = ""
        self.parked = ParkedKeys()
        self._log = log
        self._patience = patience or Patience()
        self._deliveries = Deliveries(
            definition.name,
            receiver,
            self._patience,
            connections,
            self._as_of_now,
        )
        self._derivation = Derivation(registry, definition, source)
        self._records = PublicationRecords(log, definition.name)
        self._window = Window(0, MOST_WAITING)
        self._read = 0
        self._taken = 0
        """The position of the last record that this process has handled."""
        self._lanes: dict[str, Lane] = {}
        self._passed: dict[str, int] = {}
        """By lane: the position up to which it was replayed, before the log was read so far."""
        self._replaying = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failing: dict[str, str] = {}
        self.ready = False

    @property
    def published(self) -> int:
        """Return how many events of this process the receiver has accepted."""
        return self._deliveries.taken

    @property
    def position(self) -> int:
        """Return the position up to which all events are accepted, or parked."""
        return self._window.done

    async def run(self) -> None:
        """Publish forever; after an error, try again."""
        try:
            await self._load()
            self._begin(self._retry_parked())
            self._begin(lasting(self._save_always, "a publication's checkpoints"))
            while True:
                try:
                    await self._follow()
                except StoreUnavailable as error:
                    self.error = str(error)
                except Exception as error:
                    self.error = f"{type(error).__name__}: {error}"
                    log.exception("a publication cannot go on", extra=self._about())
                self.ready = False
                await asyncio.sleep(RETRY)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        try:
            await cancel(*self._tasks)
            # In a task of its own: in a cancelled task, every call would seem to fail.
            saving = asyncio.ensure_future(self._records.save(self._window.done))
            await ended([saving])
            with suppress(StoreUnavailable):
                saving.result()
        finally:
            await self._deliveries.close()

    async def _load(self) -> None:
        while True:
            try:
                position, parked = await self._records.load()
                if position is None:
                    # A new publication begins as it was declared, whatever exists already.
                    prefixes = self._derivation.prefixes
                    from_beginning = self.definition.from_beginning
                    position = 0 if from_beginning else await self._log.end_position(prefixes)
                    await self._records.save(position)
            except StoreUnavailable as error:
                self.error = str(error)
                await asyncio.sleep(RETRY)
            else:
                self.parked = ParkedKeys(parked.values())
                self._window, self._read = Window(position, MOST_WAITING), position
                return

    # From the log.

    async def _follow(self) -> None:
        batches = self._log.subscribe(
            self._derivation.prefixes,
            self._read or None,
            event_types=self._derivation.event_types,
        )
        async with aclosing(batches):
            async for batch in batches:
                self.error = ""
                turn, read = Turn(), time.monotonic()
                for raw in batch.records:
                    await turn.pass_on()
                    self._take(raw, read)
                    await self._window.room()
                self._read = max(self._read, batch.position)
                self._window.read(batch.position)
                self._window.advance()
                self._passed = {k: at for k, at in self._passed.items() if at > self._read}
                self.ready = self.ready or batch.caught_up

    def _take(self, raw: RawRecord, read: float) -> None:
        """Put a record's events into their lanes. There is no `await`: replays rely on that."""
        self._read = self._taken = raw.position
        pending = self._window.read(raw.position, raw.created)
        whole = lane_of("", raw.stream)
        if whole in self.parked or raw.position <= self._passed.get(whole, -1):
            return
        try:
            told = self._derivation.outgoing(raw, read)
        except Unpublishable as error:
            parked = Parked("", raw.stream, raw.revision, raw.position, str(error), now_text())
            self._window.sent(pending)
            self.parked.park(parked)
            self._begin(self._note(parked, [pending]))
            return
        for outgoing in told:
            self._enqueue(outgoing, raw, pending)

    def _enqueue(self, outgoing: Outgoing, raw: RawRecord, pending: Pending) -> None:
        name = lane_of(outgoing.key, "")
        if name in self.parked or outgoing.position <= self._passed.get(name, -1):
            return
        self._window.sent(pending)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane()
            self._begin(self._empty(name, lane))
        lane.add(Waiting(outgoing, raw, pending))

    # To the receiver.

    async def _empty(self, name: str, lane: Lane) -> None:
        while lane.queue:
            waiting = lane.queue[0]
            error = await self._persist(name, lane, waiting)
            if error:
                raw, outgoing = waiting.raw, waiting.outgoing
                parked = Parked(
                    outgoing.key, raw.stream, raw.revision, raw.position, error, now_text()
                )
                # From here on new events for it are skipped, and queued ones are found again later.
                self.parked.park(parked)
                del self._lanes[name]
                await self._note(parked, [each.pending for each in lane.queue])
                return
            lane.taken()
            self._window.finished(waiting.pending)
        del self._lanes[name]

    async def _persist(self, name: str, lane: Lane, waiting: Waiting) -> str:
        """Deliver an event, retrying; return why it was given up, or ""."""
        patience, began, pause = self._patience, time.monotonic(), self._patience.first_pause
        try:
            while True:
                tried = time.monotonic()
                try:
                    await self._deliveries.deliver(waiting.outgoing, late=lane.late)
                except StoreUnavailable as error:
                    # The receiver was not called: that is no reason to park, however long it takes.
                    lane.unasked = True
                    self._failing[name] = str(error)
                    await asyncio.sleep(patience.first_pause)
                    began += time.monotonic() - tried
                except NotDelivered as error:
                    lane.refused()
                    self._failing[name] = error.reason
                    late = time.monotonic() - began > patience.park_after
                    if late or lane.full.is_set():
                        return error.reason
                    wait = max(pause * random.uniform(0.5, 1.0), error.retry_after)
                    left = patience.park_after - (time.monotonic() - began)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(wait, max(left, 0.01))):
                            await lane.full.wait()
                    pause = min(pause * 2, patience.longest_pause)
                else:
                    return ""
        finally:
            self._failing.pop(name, None)

    async def _as_of_now(self, outgoing: Outgoing) -> Outgoing | None:
        """Derive an event again from the current log: a person may be forgotten since it was read.

        None if it no longer exists, for example because its stream was deleted.

        Raises:
            NotDelivered: the domain's code fails on it.
            StoreUnavailable: its current content is unknown.
        """
        raw = await record_at(self._log, outgoing.stream, outgoing.revision)
        try:
            found = self._derivation.by_now(raw, outgoing) if raw is not None else None
        except Unpublishable as error:
            raise NotDelivered(str(error)) from error
        if found is None:
            log.warning(
                "an event is not published any more",
                extra={**self._about(), "stream": outgoing.stream, "revision": outgoing.revision},
            )
        return found

    async def _note(self, parked: Parked, held: Iterable[Pending]) -> None:
        """Record parked lanes on the log; until then no checkpoint may pass them."""
        log.error(
            "a key of a publication is parked",
            extra={**self._about(), "key": parked.key, "error": parked.error},
        )
        while True:
            try:
                await self._records.park([parked])
                break
            except StoreUnavailable as error:
                self.error = str(error)
                await asyncio.sleep(RETRY)
        for pending in held:
            self._window.finished(pending)

    # Again.

    async def retry(self, key: str | None = None) -> dict[str, int]:
        """Deliver what is parked of a key, or of all; return how many keys go on, and how many not.

        Raises:
            NoSuchPublication: nothing is parked under that key.
            StoreUnavailable: the log cannot be read, or the keys of personal data.
        """
        async with self._replaying:
            names = [*self.parked] if key is None else self.parked.lanes(key)
            if key is not None and not names:
                raise NoSuchPublication(
                    f"nothing of {self.definition.name!r} is parked under {key!r}"
                )
            still = await self._release(names)
        return {"released": len(names) - still, "parked": still}

    async def replay(self, after: int, until: int, key: str | None = None) -> dict[str, int]:
        """Deliver all events between two positions again, with the same ids and bytes.

        The checkpoint and parked keys stay as they are.

        Raises:
            StoreUnavailable: the log cannot be read, or the keys of personal data.
        """
        async with self._replaying:
            return await send_again(
                self._log, self._derivation, self._deliveries, after, until, key
            )

    async def _release(self, names: list[str]) -> int:
        """Deliver what is parked in these lanes, up to now; return how many are still parked."""
        left = {name: self.parked[name] for name in names if name in self.parked}
        if not left:
            return 0
        still, from_position = 0, min(each.position for each in left.values())
        batches = self._log.subscribe(
            self._derivation.prefixes,
            from_position - 1 if from_position > 0 else None,
            event_types=self._derivation.event_types,
        )
        live = False
        async with aclosing(batches):
            async for batch in batches:
                found = await parked_in(self._derivation, batch.records, left)
                results = await together(
                    *(again(self._deliveries, each, left[name]) for name, each in found.items())
                )
                broken = dict(zip(found, results, strict=True))
                for name, parked in broken.items():
                    if parked is not None:
                        still += 1
                        del left[name]
                        self.parked.park(parked)
                await self._records.park([each for each in broken.values() if each is not None])
                # If the log has no more relevant events, its end is never reported as a position.
                live = live or batch.caught_up
                at = self._taken if live else self._read
                if batch.position >= at or not left:
                    # There is no `await` between this check and the next line: from here on, the
                    # log's reader puts new events into lanes.
                    self.parked.release(left)
                    self._passed |= dict.fromkeys(left, batch.position)
                    await self._records.release([*left.values()])
                    return still
        return still + len(left)

    async def _retry_parked(self) -> None:
        """Periodically try what is parked: a receiver that was down may be back."""
        while True:
            await asyncio.sleep(self._patience.retry_parked * random.uniform(0.8, 1.2))
            names = [*self.parked]
            random.shuffle(names)  # so that those that are never accepted do not hide the others
            try:
                for number, name in enumerate(names[:PROBES], 1):
                    async with self._replaying:
                        if not await self._release([name]):
                            await self._release(names[number:])
                            break
            except StoreUnavailable as error:
                log.info("parked keys are not tried", extra={**self._about(), "error": str(error)})
            except Exception:
                log.exception("parked keys are not tried", extra=self._about())

    async def _save_always(self) -> None:
        published = self.published
        while True:
            await asyncio.sleep(CHECKPOINT_INTERVAL)
            idle, published = published == self.published, self.published
            interval = IDLE_CHECKPOINT_INTERVAL if idle else CHECKPOINT_INTERVAL / 2
            try:
                await self._records.save_after(self._window.done, interval)
            except StoreUnavailable as error:
                self.error = str(error)

    # For operators.

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        failing = next(iter(self._failing.items()), None)
        problem = self.error or (f"{failing[0]}: {failing[1]}" if failing else "")
        return {
            "publication": self.definition.name,
            "position": self.position,
            "ready": self.ready and not self.error,
            "published": self.published,
            "waiting": self._window.waiting,
            "failing": len(self._failing),
            "parked": len(self.parked),
            **self._parked_since(),
            **self._behind(),
            **({"error": problem} if problem else {}),
        }

    def _parked_since(self) -> dict[str, Any]:
        """Return since when the first key is parked: there may be as many as keys.

        A key that is parked again at a later event keeps its place and its time.
        """
        first = next(iter(self.parked.values()), None)
        return {"parked_since": first.at} if first is not None else {}

    def _behind(self) -> dict[str, Any]:
        """Return how far behind it is, once it has come to the log's end.

        From then on, only events that wait for the receiver put it behind: the log does not report
        other events, so the position tells little.
        """
        if not self.ready:
            return {}
        oldest = self._window.oldest
        if oldest is None:
            return {"behind": 0, "behind_seconds": 0.0}
        age = time.time() - oldest.created / 1e7 if oldest.created else 0.0
        return {
            "behind": max(self._read - self._window.done, 0),
            # The event store's clock may be ahead of ours.
            "behind_seconds": round(max(age, time.monotonic() - oldest.since), 3),
        }

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = f"{type(error).__name__}: {error}"
            log.error("a lane failed", extra=self._about(), exc_info=error)

    def _about(self) -> dict[str, str]:
        return {"publication": self.definition.name}
