"""One connected consumer: its slots, what it holds, and what waits to be sent to it."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator

from eventstore.embedded.persistent.message import Message
from eventstore.embedded.protocol.errors import RpcError

_MEASURED = 1_000


class Consumer:
    """A consumer. It never holds more messages than it has slots, so its outbox is bounded too."""

    def __init__(self, slots: int, structured: bool, peer: str, connection_name: str) -> None:
        self.slots = slots
        self.peer = peer
        self.connection_name = connection_name
        self.in_flight = 0
        self.total = 0
        self.measured_total = 0
        self.latencies: deque[float] = deque(maxlen=_MEASURED)
        self._structured = structured
        self._outbox: list[tuple[Message, int]] = []
        self._has_news = asyncio.Event()
        self._dropped: RpcError | None = None

    @property
    def free(self) -> bool:
        """Whether it can take another message."""
        return self.in_flight < self.slots

    def push(self, message: Message) -> None:
        """Give a message to the consumer."""
        message.consumer = self
        message.pushed_at = time.monotonic()
        self.in_flight += 1
        self.total += 1
        self._outbox.append((message, message.retries))
        self._has_news.set()

    def done(self, message: Message) -> None:
        """Forget a message that is no longer this consumer's."""
        message.consumer = None
        self.in_flight -= 1
        self.latencies.append(time.monotonic() - message.pushed_at)

    def drop(self, reason: RpcError) -> None:
        """End the consumer's call."""
        self._dropped = reason
        self._has_news.set()

    async def take(self) -> Iterator[bytes]:
        """Yield the responses to send. Each is made on demand, so that large events for a slow
        reader stay on disk. Raises when the consumer is dropped."""
        await self._has_news.wait()
        self._has_news.clear()
        if self._dropped is not None:
            raise self._dropped
        outbox, self._outbox = self._outbox, []
        return (message.encode(self._structured, retries) for message, retries in outbox)
