"""Folding an aggregate from the log: its snapshot where it pays, then what came after."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from actors.envelope import Done
from actors.host.entity import Entity
from actors.host.recent_commands import Seen
from actors.host.snapshots import WORTH, restore
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import Metadata
from rayfold import Registry
from rayfold.foreign_json import UNREADABLE
from rayfold.registry import AggregateType
from rayfold.runtime.turns import Turn


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
    folded, turn = 0, Turn()
    async for raw in log.read_stream(entity.stream, after=entity.expected, limit=limit):
        entity.fold(registry, raw)
        folded += 1
        await turn.pass_on()
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


async def joint_receipt(log: Log, prefixes: list[str], lead: str, seen: dict[str, Seen]) -> Done:
    """Return the receipt of a decision over several aggregates, which stands in streams already.

    `seen` has the decision by stream. Where it left those that it read alone, its events say.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    stream, found = next(iter(seen.items()))
    revisions: dict[str, int] = {}
    after = found.revision - 1 if found.revision else None
    async for raw in log.read_stream(stream, after=after, limit=1):
        revisions = revisions_in(Metadata(raw.metadata))
    # What was deleted before goes on from where it ended, which nobody knew who wrote the event.
    revisions |= {each: was.revision for each, was in seen.items()}
    position = found.position
    if not found.exact and log.receipts_share_position:
        position = await receipt_position(log, prefixes, stream, found.revision)
    return Done(revisions.get(lead, -1), position, revisions)


def revisions_in(metadata: Metadata) -> dict[str, int]:
    """Return where a decision over several aggregates left its streams; empty for other events."""
    streams = metadata.get("streams")
    try:
        return msgspec.json.decode(streams, type=dict[str, int]) if streams else {}
    except UNREADABLE:  # somebody else's metadata
        return {}


async def moved_streams(log: Log, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Return the streams that are no longer where these aggregates were folded to.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    found = await asyncio.gather(*(_last_revision(log, each.stream) for each in entities))
    return tuple(
        each.stream for each, last in zip(entities, found, strict=True) if last != each.revision
    )


async def _last_revision(log: Log, stream: str) -> int:
    try:
        async for raw in log.read_stream(stream, backwards=True, limit=1):
            return raw.revision
    except StreamTombstoned:
        return -2  # where no aggregate was ever folded to
    return -1


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
