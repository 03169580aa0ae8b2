"""The receipt of a command that was written before: a repeat gets it again, out of the log."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from actors.envelope import Done
from actors.host.recent_commands import Seen
from eventstore.one_record import first_record
from eventstore.port import Log
from eventstore.records import Metadata
from rayfold.foreign_json import UNREADABLE

_PAGE = 1024
"""Events looked at together; few group commits hold more."""


async def receipt_position(log: Log, prefixes: list[str], stream: str, revision: int) -> int:
    """Return the position that the receipt of the event at that revision gave.

    A group commit is one transaction of the store, and its receipts give the last position
    of all: the events behind this one that the same writer wrote in the same commit. Other
    stores give each its own.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    raw = await first_record(log, stream, revision)
    if raw is None:
        return 0
    writer = Metadata(raw.metadata).get("writer")
    last = raw.position
    if not log.receipts_share_position or writer is None:  # None: somebody else's client
        return last
    while (position := await _last_of_commit(log, prefixes, writer, last)) > last:
        last = position
    return last


async def joint_receipt(log: Log, prefixes: list[str], lead: str, seen: dict[str, Seen]) -> Done:
    """Return the receipt of a decision over several aggregates, which stands in streams already.

    `seen` has the decision by stream. Where it left those that it read alone, its events say.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    stream, found = next(iter(seen.items()))
    revisions: dict[str, int] = {}
    raw = await first_record(log, stream, found.revision)
    if raw is not None:
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


async def _last_of_commit(log: Log, prefixes: list[str], writer: str, after: int) -> int:
    last = after
    async with aclosing(log.read_all(prefixes, after=after, limit=_PAGE)) as others:
        async for other in others:
            if Metadata(other.metadata).get("writer") != writer:
                break
            last = other.position
    return last
