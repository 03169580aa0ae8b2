"""Folding an aggregate from the log: from a snapshot where that pays, then the events after it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.host.entity import Entity
from actors.host.snapshots import WORTH, restore
from eventstore.errors import StreamTombstoned
from eventstore.one_record import last_record
from eventstore.port import Log
from rayfold import Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.turns import Turn


async def load(log: Log, registry: Registry, aggregate: AggregateType, stream: str) -> Entity:
    """Fold the aggregate to the end of its stream.

    A short stream takes a single read. A snapshot is only looked for if the stream has more than
    `WORTH` events, so that the many short-lived aggregates do not pay for the few long ones.

    Raises:
        StoreUnavailable: the log cannot be read.
        StreamTombstoned: the stream was deleted for good.
        UnknownEventType, UnreadableEvent: an event cannot be read.
    """
    entity = Entity(aggregate, stream)
    folded = await _fold(log, registry, entity, limit=WORTH)
    if folded >= WORTH:
        first = entity.revision + 1 - folded
        entity = await restore(log, aggregate, stream, not_before=first) or entity
        await _fold(log, registry, entity, limit=None)
    return entity


async def _fold(log: Log, registry: Registry, entity: Entity, limit: int | None) -> int:
    """Fold the events after the entity's revision; return how many there were."""
    folded, turn = 0, Turn()
    async for raw in log.read_stream(entity.stream, after=entity.expected, limit=limit):
        entity.fold(registry, raw)
        folded += 1
        await turn.pass_on()
    return folded


async def moved_streams(log: Log, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Return the streams whose revision has changed since these aggregates were folded.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    found = await asyncio.gather(*(_last_revision(log, each.stream) for each in entities))
    return tuple(
        each.stream for each, last in zip(entities, found, strict=True) if last != each.revision
    )


async def _last_revision(log: Log, stream: str) -> int:
    try:
        last = await last_record(log, stream)
    except StreamTombstoned:
        return -2  # a revision that no aggregate can have
    return last.revision if last is not None else -1
