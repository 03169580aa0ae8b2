"""The receipt of a command that was written before, read from the log to answer a repeat."""

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
"""Events read at a time; few group commits hold more."""


async def receipt_position(log: Log, prefixes: list[str], stream: str, revision: int) -> int:
    """Return the position in the receipt of the command whose event is at this revision.

    A group commit is one transaction of the store, and all its receipts give its last position:
    that of the last event that the same writer wrote in the same commit. Other stores give each
    stream its own position.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    raw = await first_record(log, stream, revision)
    if raw is None:
        return 0
    writer = Metadata(raw.metadata).get("writer")
    last = raw.position
    if not log.receipts_share_position or writer is None:  # None: written by another client
        return last
    while (position := await _last_of_commit(log, prefixes, writer, last)) > last:
        last = position
    return last


async def joint_receipt(log: Log, prefixes: list[str], lead: str, seen: dict[str, Seen]) -> Done:
    """Return the receipt of a decision over several aggregates that is already on the log.

    `seen` has the decision's record by stream. The revisions of streams that it only read are in
    the metadata of its events.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    stream, found = next(iter(seen.items()))
    revisions: dict[str, int] = {}
    raw = await first_record(log, stream, found.revision)
    if raw is not None:
        revisions = revisions_in(Metadata(raw.metadata))
    # A stream deleted before continues its revisions, which were unknown when the event was
    # written.
    revisions |= {each: was.revision for each, was in seen.items()}
    position = found.position
    if not found.exact and log.receipts_share_position:
        position = await receipt_position(log, prefixes, stream, found.revision)
    return Done(revisions.get(lead, -1), position, revisions)


def revisions_in(metadata: Metadata) -> dict[str, int]:
    """Return the revisions after a decision over several aggregates; empty for other events."""
    streams = metadata.get("streams")
    try:
        return msgspec.json.decode(streams, type=dict[str, int]) if streams else {}
    except UNREADABLE:  # metadata of another client
        return {}


async def _last_of_commit(log: Log, prefixes: list[str], writer: str, after: int) -> int:
    last = after
    async with aclosing(log.read_all(prefixes, after=after, limit=_PAGE)) as others:
        async for other in others:
            if Metadata(other.metadata).get("writer") != writer:
                break
            last = other.position
    return last
