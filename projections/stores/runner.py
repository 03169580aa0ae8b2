"""Shared by all projectors: they run forever, and report their status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from typing import Any, Generic, TypeVar

from eventstore.errors import NoSuchPosition, StoreUnavailable
from eventstore.folded_log import FoldedLog
from eventstore.records import Batch, RawRecord
from projections.errors import Fenced, NotInTime, named
from projections.supervision.condition import AtWork, working_on
from projections.supervision.progress import Progress
from rayfold.runtime.tracing import Span, tracing

log = logging.getLogger(__name__)

RETRY = 0.25
"""Seconds before a retry after an error."""

SETTLE = 0.05
"""Seconds to wait for events before the log is asked whether there are any."""

MOMENT = 0.3
"""The most seconds that a status request waits for that."""

SILENCE = 5.0
"""Seconds for the log to answer whether there are events."""

RENEW = 10.0
"""The most seconds until events are followed again."""

Resource = TypeVar("Resource")


class ProjectionRunner(Generic[Resource]):
    """`connect` gives the resource to work with: a connection pool, or a writer of `store`."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Resource]],
        store: str = "postgres",
    ) -> None:
        self._connect = connect
        self._store = store
        self._tracing = tracing()
        self.progress = Progress()
        self.ready = asyncio.Event()
        """Set once it has been at the log's end, or is a consumer of its group."""
        self.events = 0
        self.error: str | None = None
        self._told: str | None = None
        """What it last began again for: of an event that takes too long operators are told once."""
        self._working: AtWork | None = None
        self.settle: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Moves the progress to the log's end if no event up to there concerns it.

        Set by those that follow only some streams: their subscription says little about the others.
        """
        self._settling: asyncio.Task[None] | None = None
        self._lost: dict[str, int] = {}
        """By view: checkpoints that are beyond the log's end, as it was restored."""
        self._renew = asyncio.Event()
        self._renewed = asyncio.Event()

    @contextmanager
    def told_meanwhile(self, error: BaseException) -> Iterator[None]:
        """Report an error that took too long in the status while a smaller batch is tried."""
        told = named(error) if isinstance(error, TimeoutError) else None
        self.error = told or self.error
        yield
        if self.error == told:
            self.error = None

    async def run(self, work: Callable[[Resource], Coroutine[Any, Any, None]]) -> None:
        """Work forever; after an error, connect again and retry."""
        while True:
            before = self.events
            try:
                async with self._connect() as connected:
                    self._renew.clear()
                    await self._until_renewed(work(connected))
            except Fenced as error:
                # Once means that a new generation took over. Repeatedly means a rival.
                if self.events == before:
                    self.error = named(error)
                log.info("a projection was fenced", extra={"error": named(error)})
            except Exception as error:  # a bug of ours, too, must be reported and not end the actor
                self.error = named(error)
                news = isinstance(error, NotInTime) and self.error != self._told
                self._told = self.error
                level = logging.WARNING if news else logging.INFO
                log.log(level, "a projection begins again", extra={"error": self.error})
            if self.error:
                await asyncio.sleep(RETRY)

    async def _until_renewed(self, work: Coroutine[Any, Any, None]) -> None:
        working = asyncio.create_task(work)
        renewing = asyncio.create_task(self._renew.wait())
        try:
            await asyncio.wait([working, renewing], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            self._working = None
            tasks = [working, renewing, *([self._settling] if self._settling else [])]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reached(self, position: int, timeout: float) -> int:
        """Return its position once it is at `position`, or after `timeout` seconds."""
        until = time.monotonic() + timeout
        patience = SETTLE if self.settle else timeout
        while (left := until - time.monotonic()) > 0:
            if await self.progress.reached(position, min(patience, left)):
                break
            await self.settled()
            patience = min(2 * patience, timeout)
        return self.progress.position

    async def settled(self) -> None:
        """Briefly try to come as far as the log, before the status is reported.

        It does not take long: a log that does not answer must not make the projector look silent.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                if self._settling is not None:  # it may have read the log's end before
                    await asyncio.wait([self._settling])
                self._settle_soon()
                if self._settling is not None:
                    await asyncio.wait([self._settling])

    def _settle_soon(self) -> None:
        follows = self.ready.is_set() and self.error is None
        if self.settle and follows and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle(self.settle))

    async def _settle(self, settle: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            async with asyncio.timeout(SILENCE):
                await settle()
        except (StoreUnavailable, TimeoutError) as error:  # the next call tries again
            log.info("the log's end cannot be read", extra={"error": named(error)})
        except Exception:
            log.exception("reading the log's end failed")

    async def renew(self, view: str) -> None:
        """Begin again from the store; return when events are followed again.

        A new live generation is detected with the next event; an operator wants that earlier.
        """
        self._lost.pop(view, None)
        self._renewed.clear()
        self._renew.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW):
                await self._renewed.wait()

    async def follow(
        self, folded: FoldedLog, checkpoints: Mapping[str, int], most: int, **options: Any
    ) -> AsyncGenerator[Batch, None]:
        """Yield the events after the lowest of the checkpoints, given by view, as `batches` does.

        Raises:
            NoSuchPosition: the log was restored to a moment before one of them. It may have grown
                past it since: its events there are still not those that were folded. All views wait
                until that one is rebuilt, as they share a subscription.
            StoreUnavailable: the log's end is unknown.
        """
        self._lost = {
            view: at for view, at in self._lost.items() if checkpoints.get(view) == at
        }  # another generation has its own
        first, last = min(checkpoints.values(), default=0), max(checkpoints.values(), default=0)
        if last > first:  # the log would not be read from there
            self._lost |= await folded.beyond_end(checkpoints)
        if self._lost:
            self._renewed.set()  # as far as it is possible
            raise NoSuchPosition
        subscription = folded.follow(first, **options)
        try:
            async with aclosing(self.batches(subscription, most)) as batches:
                async for batch in batches:
                    yield batch
        except NoSuchPosition:
            with suppress(StoreUnavailable):  # it will be tried again
                self._lost |= await folded.beyond_end(checkpoints, refused=first)
            raise

    async def batches(
        self, subscription: AsyncGenerator[Batch, None], most: int
    ) -> AsyncGenerator[Batch, None]:
        """Yield the events of a subscription in batches of at most `most`; close it in the end.

        Requesting the next batch means that the one before is done. Until then an earlier error
        stays in the status: the batch that could not be written is only delivered again.
        """
        self._renewed.set()
        async with aclosing(subscription):
            async for records, position, caught_up in subscription:
                for at in range(0, max(len(records), 1), most):
                    piece = records[at : at + most]
                    last = at + most >= len(records)
                    self._working = AtWork.begins(piece) if piece else None
                    yield Batch(piece, position if last else piece[-1].position, caught_up)
                    self._working = None
                    self.error = None
                if caught_up:
                    self.ready.set()

    def traced(self, views: Sequence[str], records: Sequence[RawRecord]) -> Span | None:
        """Start the span of a batch to be written; None if no event in it is traced."""
        if self._tracing is None:
            return None
        about = {"rayfold.views": list(views), "rayfold.events": len(records)}
        metadata = (raw.metadata for raw in records)
        return self._tracing.of_batch(f"apply {self._store}", metadata, about)

    def status(self, views: Sequence[str], **more: Any) -> dict[str, Any]:
        """Return counts, for operators."""
        return {
            "views": list(views),
            "position": self.progress.position,
            "ready": self.ready.is_set() and self.error is None,
            "events": self.events,
            **more,
            **working_on(self._working),
            **({"error": self.error} if self.error else {}),
            **({"lost": sorted(self._lost)} if self._lost else {}),
        }
