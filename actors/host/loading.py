"""Folding an aggregate from the log: its snapshot where it pays, then what came after."""

from __future__ import annotations

import asyncio

from actors.host.entity import Entity
from actors.host.snapshots import WORTH, restore
from eventstore.port import Log
from rayfold import Registry
from rayfold.registry import AggregateType

SLICE = 200
"""Events folded before the loop may turn to others: about two milliseconds."""


async def load(log: Log, registry: Registry, aggregate: AggregateType, stream: str) -> Entity:
    """Fold the aggregate as the log has it now.

    A short stream is one read. Only one that goes on behind `WORTH` events is asked for
    a snapshot, so that the many short-lived aggregates never pay for the few long ones.

    Raises:
        StoreUnavailable: the log cannot be read.
        StreamTombstoned: it was deleted for good.
        UnknownEventType, UnreadableEvent: nor can an event.
    """
    entity = Entity(aggregate, stream)
    folded = await _fold(log, registry, entity, limit=WORTH)
    if folded >= WORTH:
        first = entity.revision + 1 - folded
        entity = await restore(log, aggregate, stream, not_before=first) or entity
        await _fold(log, registry, entity, limit=None)
    return entity


async def _fold(log: Log, registry: Registry, entity: Entity, limit: int | None) -> int:
    """Fold what comes after the entity's revision; return how many events that were."""
    folded = 0
    async for raw in log.read_stream(entity.stream, after=entity.expected, limit=limit):
        entity.fold(registry, raw)
        folded += 1
        if folded % SLICE == 0:
            await asyncio.sleep(0)
    return folded


async def receipt_position(log: Log, prefixes: list[str], stream: str, revision: int) -> int:
    """Return the position that the receipt of the event at that revision gave.

    A group commit is one transaction of the store, and its receipts give the last position
    of all: the events behind this one that the same writer wrote in the same commit. Other
    stores give each its own.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    async for raw in log.read_stream(stream, after=revision - 1 if revision else None, limit=1):
        writer = _writer(raw.metadata)
        last = raw.position
        if not log.receipts_share_position:
            return last
        while (position := await _last_of_commit(log, prefixes, writer, last)) > last:
            last = position
        return last
    return 0


_PAGE = 1024
"""Events looked at together; few group commits hold more."""


async def _last_of_commit(log: Log, prefixes: list[str], writer: str | None, after: int) -> int:
    last = after
    async for other in log.read_all(prefixes, after=after, limit=_PAGE):
        if _writer(other.metadata) != writer:
            break
        last = other.position
    return last


def _writer(metadata: bytes) -> str | None:
    at = metadata.find(b'"writer":"')
    return None if at < 0 else metadata[at + 10 : metadata.index(b'"', at + 10)].decode()
