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
        UnknownEventType, UnreadableEvent: nor can an event.
    """
    entity = Entity(aggregate, stream)
    await _fold(log, registry, entity, limit=WORTH)
    if entity.revision + 1 >= WORTH:
        entity = await restore(log, aggregate, stream) or entity
        await _fold(log, registry, entity, limit=None)
    return entity


async def _fold(log: Log, registry: Registry, entity: Entity, limit: int | None) -> None:
    folded = 0
    async for raw in log.read_stream(entity.stream, after=entity.expected, limit=limit):
        entity.fold(registry, raw)
        folded += 1
        if folded % SLICE == 0:
            await asyncio.sleep(0)


async def receipt_position(log: Log, prefixes: list[str], stream: str, revision: int) -> int:
    """Return the position that the receipt of the event at that revision gave.

    A group commit is one transaction of the store, and its receipts give the last position
    of all: the events behind this one that the same writer wrote in the same commit.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    async for raw in log.read_stream(stream, after=revision - 1 if revision else None, limit=1):
        position = raw.position
        writer = _writer(raw.metadata)
        async for other in log.read_all(prefixes, after=position, limit=_COMMIT_EVENTS):
            if _writer(other.metadata) != writer:
                break
            position = other.position
        return position
    return 0


_COMMIT_EVENTS = 1024
"""More events than a group commit holds."""


def _writer(metadata: bytes) -> str | None:
    at = metadata.find(b'"writer":"')
    return None if at < 0 else metadata[at + 10 : metadata.index(b'"', at + 10)].decode()
