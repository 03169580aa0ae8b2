"""How messages are spread over consumers.

Rules: EventStoreDB docs, "Persistent subscriptions, consumer strategies". All respect slots.
"""

import json
import zlib
from collections.abc import Callable
from typing import Protocol

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.message import Message

_BUCKETS = 1024


class Strategy(Protocol):
    """Chooses a consumer with a free slot."""

    blocks_alone: bool
    """Whether a message that must wait lets later ones pass."""

    def pick(self, consumers: list[Consumer], message: Message) -> Consumer | None:
        """Choose a consumer; None: the message must wait."""

    def left(self, consumer: Consumer) -> None:
        """Note that a consumer is gone."""


class DispatchToSingle:
    """The first connected consumer, until it is full."""

    blocks_alone = False

    def pick(self, consumers: list[Consumer], message: Message) -> Consumer | None:
        """Choose the first with room."""
        return next((consumer for consumer in consumers if consumer.free), None)

    def left(self, consumer: Consumer) -> None:
        """Do nothing: nothing is remembered."""


class RoundRobin:
    """Take turns."""

    blocks_alone = False

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, consumers: list[Consumer], message: Message) -> Consumer | None:
        """Choose the next with room after the last one chosen."""
        count = len(consumers)
        for step in range(count):
            consumer = consumers[(self._turn + step) % count]
            if consumer.free:
                self._turn = (self._turn + step + 1) % count
                return consumer
        return None

    def left(self, consumer: Consumer) -> None:
        """Do nothing: the turn is an index, and stays valid modulo the count."""


def by_stream(message: Message) -> str:
    """Return the key of ``Pinned``: the stream the event was written to."""
    return message.key_event.stream


def by_correlation(message: Message) -> str:
    """Return the key of ``PinnedByCorrelation``: ``$correlationId``, else the stream."""
    try:
        metadata = json.loads(message.key_event.record().custom_metadata)
    except (ValueError, RecursionError):
        return by_stream(message)
    key = metadata.get("$correlationId") if isinstance(metadata, dict) else None
    return key if isinstance(key, str) else by_stream(message)


class Pinned:
    """A key stays with its consumer: buckets of keys are bound at first use, least loaded first."""

    blocks_alone = True

    def __init__(self, key: Callable[[Message], str]) -> None:
        self._key = key
        self._bound: dict[int, Consumer] = {}
        self._load: dict[Consumer, int] = {}

    def pick(self, consumers: list[Consumer], message: Message) -> Consumer | None:
        """Choose the bucket's consumer; None while that is full."""
        if message.bucket is None:
            message.bucket = zlib.crc32(self._key(message).encode()) % _BUCKETS
        bucket = message.bucket
        consumer = self._bound.get(bucket)
        if consumer is None:
            candidates = [candidate for candidate in consumers if candidate.free]
            if not candidates:
                return None
            consumer = min(candidates, key=lambda candidate: self._load.get(candidate, 0))
            self._bound[bucket] = consumer
            self._load[consumer] = self._load.get(consumer, 0) + 1
        return consumer if consumer.free else None

    def left(self, consumer: Consumer) -> None:
        """Release its buckets: they are bound again at their next message."""
        self._load.pop(consumer, None)
        self._bound = {
            bucket: bound for bucket, bound in self._bound.items() if bound is not consumer
        }


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "DispatchToSingle": DispatchToSingle,
    "RoundRobin": RoundRobin,
    "Pinned": lambda: Pinned(by_stream),
    "PinnedByCorrelation": lambda: Pinned(by_correlation),
}
