"""Adaptive batching: items that arrive while a batch is being sent go into the next batch.

An idle batcher sends a single item at once, and a busy one sends batches as large as the
arrival rate times the duration of a call. Throughput follows load without a setting.

Callers who wait for their answer before they call again fall into two halves: one is being
sent while the other waits, so that each batch has half the size that it could have. A batcher
with `patience` therefore waits for the callers whom it has just answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from rayfold.runtime.together import cancel

ENOUGH = 64
"""Number of items in a batch from which on waiting for more does not pay: the fixed cost of a call
is small by then, and two alternating halves keep both ends busy."""

LONGEST = 0.05
"""The most seconds that a batch waits for callers, however long the batch before took."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class BatchFull(Exception):
    """The queue has reached its bound; nothing was queued."""


class Batcher(Generic[Item, Answer]):
    """Groups single calls into calls of `send`, at most `in_flight` of them at a time.

    `send` gets up to `max_batch` items and returns as many answers, in the same order. If
    it raises, every item of that batch raises the same error. At most `max_queue` items
    wait: beyond that `call` raises `BatchFull` at once. In place of an answer `send` may return a
    future: then only that item waits for it, and the next batch is sent. Such a call counts as
    ended, so a `send` that returns futures must bound the number of unanswered items itself.

    After a call that answered several items, the next is sent when as many (or `ENOUGH`) have
    arrived, or after `patience` times the duration of that call, at most `LONGEST`: that spreads
    the fixed cost of a call over more items. After a call with one item there is no such wait.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Answer | asyncio.Future[Answer]]]],
        *,
        max_batch: int = 512,
        max_queue: int = 4096,
        in_flight: int = 1,
        patience: float = 0.0,
    ) -> None:
        self._send = send
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._in_flight = in_flight
        self._patience = patience
        self._queue: deque[tuple[Item, asyncio.Future[Answer | asyncio.Future[Answer]]]] = deque()
        self._draining = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected = 0
        self._expected_until = 0.0
        self._all_came = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of waiting items, not counting those that are being sent."""
        return len(self._queue)

    async def call(self, item: Item) -> Answer:
        """Return the answer to one item.

        Raises:
            BatchFull: too many items wait already.
        """
        if len(self._queue) >= self._max_queue:
            raise BatchFull
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[Answer | asyncio.Future[Answer]] = loop.create_future()
        self._queue.append((item, sent))
        if len(self._queue) == self._expected:
            self._all_came.set()
        if self._draining < self._in_flight:
            # Counted here and in `_drain`, in step with the queue: a task that found the queue
            # empty may not be done yet when its last caller makes the next call.
            self._draining += 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        answer = await sent
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def close(self) -> None:
        """Cancel the calls of `send` and all waiting items."""
        try:
            await cancel(*self._tasks)
        finally:
            while self._queue:
                self._queue.popleft()[1].cancel()

    async def _drain(self) -> None:
        try:
            await self._send_all()
        finally:
            self._draining -= 1

    async def _send_all(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._queue:
            if self._patience:
                await self._gather(self._expected_until - clock())
            count = min(len(self._queue), self._max_batch)
            batch = [self._queue.popleft() for _ in range(count)]
            began = clock()
            try:
                answers = await self._send([item for item, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        if isinstance(error, asyncio.CancelledError):
                            future.cancel()
                        else:
                            future.set_exception(error)
                self._expected = 0
                if isinstance(error, asyncio.CancelledError):
                    raise
            else:
                returning = sum(
                    1
                    for (_, future), answer in zip(batch, answers, strict=True)
                    if not future.done() and not isinstance(answer, asyncio.Future)
                )
                if returning < 2:
                    returning = 0
                self._expected = min(len(self._queue) + returning, self._max_batch, ENOUGH)
                now = clock()
                self._expected_until = now + min((now - began) * self._patience, LONGEST)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():  # its caller may have been cancelled
                        future.set_result(answer)

    async def _gather(self, seconds: float) -> None:
        """Wait until the expected number of items is queued, but no longer than `seconds`."""
        if seconds > 0 and len(self._queue) < self._expected:
            self._all_came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._all_came.wait()
