"""A consumer group: which message goes to whom, when it comes again, and how far all have got.

A synchronous state machine. Every change (a consumer joins, acknowledges or leaves, events are
committed, a second passes) ends in ``pump``, which pushes messages to all consumers with room. It
waits only for writes, by callbacks: a message to be parked stays outstanding, and holds the
checkpoint back, until its entry is durable.
"""

import asyncio
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.errors import dropped, too_many_consumers
from eventstore.embedded.persistent.message import Message
from eventstore.embedded.persistent.replay import Replay
from eventstore.embedded.persistent.settings import GroupSettings
from eventstore.embedded.persistent.source import make_source
from eventstore.embedded.persistent.strategies import STRATEGIES
from eventstore.embedded.persistent.writes import park, save_checkpoint
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.storage.event import Event
from eventstore.embedded.storage.log_reader import LogReader
from eventstore.embedded.storage.operations import Operation

Submit = Callable[[Operation], "asyncio.Future[object]"]


class Group:
    """See the module."""

    def __init__(
        self, log: LogReader, submit: Submit, settings: GroupSettings, checkpoint: int | None
    ) -> None:
        self.settings = settings
        self.consumers: list[Consumer] = []
        self.checkpoint = checkpoint
        self.total_items = 0
        self.measured_items = 0
        self.rate = 0
        self._submit = submit
        start = settings.origin if checkpoint is None else checkpoint + 1
        self.source = make_source(log, settings, start)
        self.buffer: deque[Message] = deque()
        self.retries: deque[Message] = deque()
        """Messages to deliver again, in order, followed by replayed ones in order of arrival."""
        self.outstanding: dict[bytes, list[Message]] = {}
        self.replay = Replay(log, submit, settings)
        self._strategy = STRATEGIES[settings.strategy]()
        self._handled = 0
        self._checkpointed_at = time.monotonic()
        self._saving = False
        self._again = False
        self._closed = False

    # Consumers

    def check_room(self) -> None:
        """Raise if the group is full."""
        limit = self.settings.max_subscribers
        if limit and len(self.consumers) >= limit:
            raise too_many_consumers(self.settings.stream, self.settings.name)

    def join(self, consumer: Consumer) -> None:
        """Add a consumer; raise if the group is full."""
        self.check_room()
        self.consumers.append(consumer)
        try:
            self.pump()
        except BaseException:  # the consumer is not served, so it must get no messages
            with suppress(Exception):  # it may raise the same error again
                self.leave(consumer)
            raise

    def leave(self, consumer: Consumer) -> None:
        """Remove a consumer. Its messages go to others, in order; that alone never parks them."""
        if consumer not in self.consumers:
            return
        self.consumers.remove(consumer)
        self._strategy.left(consumer)
        for message in self._all_outstanding():
            if message.consumer is consumer:
                self._take_back(message)
                self._retry(message)
        if not self.consumers:
            self._save_checkpoint()
        self.pump()

    def close(self) -> None:
        """End all consumers: the group is updated, deleted or restarted."""
        self._closed = True
        reason = dropped(self.settings.stream, self.settings.name)
        for consumer in self.consumers:
            consumer.drop(reason)
        self.consumers = []

    # Outcomes

    def ack(self, ids: list[bytes]) -> None:
        """Note that messages are handled. Unknown ids are ignored."""
        for event_id in ids:
            message = self._find(event_id)
            if message is not None:
                self._take_back(message)
                self._finish(message)
        self._update_progress()

    def nack_retry(self, ids: list[bytes]) -> None:
        """Deliver again, or park when that has been tried often enough."""
        for event_id in ids:
            message = self._find(event_id)
            if message is not None:
                self._take_back(message)
                self._retry_or_park(message)
        self._update_progress()

    def nack_park(self, ids: list[bytes], reason: str) -> None:
        """Park messages for an operator."""
        for event_id in ids:
            message = self._find(event_id)
            if message is not None:
                self._take_back(message)
                self._park(message, f"Client explicitly NAK'ed message.\n{reason}")
        self._update_progress()

    def _update_progress(self) -> None:
        if self._handled >= max(self.settings.max_checkpoint_count, 1):
            self._save_checkpoint()
        self.pump()

    def _find(self, event_id: bytes) -> Message | None:
        found = self.outstanding.get(event_id)
        return next((message for message in found or () if not message.parking), None)

    def _take_back(self, message: Message) -> None:
        if message.consumer is not None:
            message.consumer.done(message)

    def _finish(self, message: Message) -> None:
        """Forget a message for which nothing is left to do."""
        self._forget(message)
        if message.replayed is None:
            self._handled += 1
        else:
            self.replay.finished(message.replayed)

    def _forget(self, message: Message) -> None:
        same = self.outstanding.get(message.original.id)
        if same is not None:
            same.remove(message)
            if not same:
                del self.outstanding[message.original.id]

    def _retry(self, message: Message) -> None:
        self._forget(message)
        message.retries += 1
        self._queue_retry(message)

    def _queue_retry(self, message: Message) -> None:
        if message.replayed is not None:
            self.retries.append(message)
            return
        fresh = bisect_left(self.retries, True, key=lambda queued: queued.replayed is not None)
        insort(self.retries, message, hi=fresh, key=lambda queued: queued.order)

    def _retry_or_park(self, message: Message) -> None:
        limit = self.settings.max_retries
        if message.retries < limit:
            self._retry(message)
        else:
            self._park(message, f"Reached retry count of {limit}")

    def _park(self, message: Message, reason: str) -> None:
        message.parking = True
        original = message.original
        if original.type == "$>":
            link = original.record().data  # a link is parked as a link to its target
        else:
            link = f"{original.revision}@{original.stream}".encode()

        def parked(future: "asyncio.Future[object]") -> None:
            message.parking = False
            if future.cancelled() or future.exception() is not None:
                self._forget(message)
                self._queue_retry(message)
            else:
                self._finish(message)
            if not self._closed:
                self._update_progress()

        try:
            future = self._submit(park(self.settings, link, reason, message.order))
        except RpcError:
            message.parking = False
            self._forget(message)
            self._queue_retry(message)
            return
        future.add_done_callback(parked)

    # Pushing

    def pump(self) -> None:
        """Push until no consumer has room or nothing is left."""
        if self._closed or not self.consumers:
            return
        while True:
            if not any(consumer.free for consumer in self.consumers):
                return
            self._push_from(self.retries)
            self._push_from(self.buffer)
            room = self.settings.history_buffer - len(self.buffer)
            if room <= 0 or not any(consumer.free for consumer in self.consumers):
                return
            if self.source.level:
                return
            messages = self.source.read(min(max(self.settings.read_batch, 1), room))
            self.buffer += messages
            self._handled += self.source.skipped
            self.source.skipped = 0
            if not messages:
                # The filter matches little: continue, but let other tasks run in between.
                if not self.source.level and not self._again:
                    self._again = True
                    asyncio.get_running_loop().call_soon(self._pump_again)
                return

    def _pump_again(self) -> None:
        self._again = False
        self.pump()

    def _push_from(self, queue: deque[Message]) -> None:
        """Push from the front while there is room; later messages are not examined."""
        passed: list[Message] = []
        while queue and any(consumer.free for consumer in self.consumers):
            consumer = self._strategy.pick(self.consumers, queue[0])
            if consumer is not None:
                self._push(queue.popleft(), consumer)
            elif self._strategy.blocks_alone:
                passed.append(queue.popleft())
            else:
                break
        queue.extendleft(reversed(passed))

    def _push(self, message: Message, consumer: Consumer) -> None:
        message.deadline = time.monotonic() + self.settings.message_timeout / 1000
        self.outstanding.setdefault(message.original.id, []).append(message)
        self.total_items += 1
        consumer.push(message)

    def committed(self, events: list[Event]) -> None:
        """Handle new events; cheap for a group without room or without consumers."""
        if self.consumers:
            self.pump()

    # Time

    def tick(self, now: float) -> None:
        """Handle timeouts, and the checkpoint that is due by time; called once a second."""
        late = [
            message
            for message in self._all_outstanding()
            if not message.parking and message.deadline <= now
        ]
        for message in late:
            self._take_back(message)
            self._retry_or_park(message)
        self.rate = self.total_items - self.measured_items
        self.measured_items = self.total_items
        for consumer in self.consumers:
            consumer.measured_total = consumer.total
        after = self.settings.checkpoint_after / 1000  # 0: by the number of events alone
        due = 0 < after <= now - self._checkpointed_at
        if due and self._handled >= max(self.settings.min_checkpoint_count, 1):
            self._save_checkpoint()
        self.pump()

    def _all_outstanding(self) -> list[Message]:
        messages = [message for same in self.outstanding.values() for message in same]
        messages.sort(key=lambda message: message.order)
        return messages

    # Progress

    def progress(self) -> int:
        """Return the last revision or position up to which everything is handled."""
        waiting = [
            message.order
            for same in self.outstanding.values()
            for message in same
            if message.replayed is None
        ]
        for queue in (self.retries, self.buffer):  # the first of each is its lowest
            if queue and queue[0].replayed is None:
                waiting.append(queue[0].order)
        return min(waiting) - 1 if waiting else self.source.next - 1

    def flush(self) -> None:
        """Save progress now: at a clean stop, so that little is delivered twice after it."""
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        value = self.progress()
        known = self.settings.origin - 1 if self.checkpoint is None else self.checkpoint
        if value <= known or self._saving:
            return

        def saved(future: "asyncio.Future[object]") -> None:
            self._saving = False
            if not future.cancelled() and future.exception() is None:
                self.checkpoint = value
                # As many may have been handled meanwhile, and perhaps nothing else triggers a save.
                if not self._closed and self._handled >= max(self.settings.max_checkpoint_count, 1):
                    self._save_checkpoint()

        try:
            future = self._submit(save_checkpoint(self.settings, value))
        except RpcError:
            return
        self._saving = True
        self._handled = 0
        self._checkpointed_at = time.monotonic()
        future.add_done_callback(saved)

    def replay_parked(self, stop_at: int | None) -> None:
        """Put parked messages behind the retries; raises if that makes no sense."""
        self.retries += self.replay.start(stop_at)
        self.pump()
