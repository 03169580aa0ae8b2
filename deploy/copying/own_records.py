"""Rayfold's own records in a copy of the log: which are copied, and how positions change.

Records of processes, checkpoints and parked entries have positions of their log. Copied unchanged,
they would make a process handle events twice or never. So an unknown record is refused: a later
Rayfold, or a new part of this one, may have put a position into it.
"""

from __future__ import annotations

from collections.abc import Callable

from actors import append_watch, origins
from actors.host import snapshots
from actors.processes import checkpoints, records
from actors.schedules import records as schedules
from eventstore import identity, tenancy
from eventstore.kurrentdb.whole_log import WholeRecord
from eventstore.personal import witness
from eventstore.positions import At
from projections import discarded_events
from projections.operations import audit
from projections.publications import records as publications
from rayfold.aggregate import OUR_CATEGORIES

CHECKPOINTS = {
    checkpoints.CHECKPOINT: checkpoints.KEPT,
    publications.CHECKPOINT: publications.KEPT,
}
"""Streams of which only the last record matters, and how many records the store is asked to
keep.
"""

NOT_COPIED = (identity.STREAM, identity.COPY)
"""Streams that identify the log: a copy is another log."""

_Mover = Callable[[str, bytes, At], bytes]


def _as_it_is(event_type: str, data: bytes, at: At) -> bytes:
    return data


def _of_checkpoints(event_type: str, data: bytes, at: At) -> bytes:
    return checkpoints.moved_record(data, at)


def _of_publications(event_type: str, data: bytes, at: At) -> bytes:
    return publications.moved_record(data, at)


_MOVERS: dict[str, tuple[_Mover, tuple[str, ...]]] = {
    origins.PROCESSES: (records.moved_record, records.TYPES),
    checkpoints.PREFIX: (_of_checkpoints, checkpoints.TYPES),
    publications.CHECKPOINTS: (_of_publications, publications.TYPES),
    publications.PARKS: (_of_publications, publications.TYPES),
    discarded_events.PREFIX: (_as_it_is, discarded_events.TYPES),
    audit.STREAM: (_as_it_is, audit.TYPES),
    witness.STREAM: (_as_it_is, witness.TYPES),
    tenancy.STREAM: (_as_it_is, tenancy.TYPES),
    append_watch.PROBE_STREAM: (_as_it_is, append_watch.TYPES),
}
"""By stream prefix: how a record is changed, and the known types."""

_OURS = tuple(f"{category}-" for category in OUR_CATEGORIES)


class UnknownRecord(Exception):
    """A record of Rayfold's own that this release does not know; the message names it."""


def is_copied(stream: str) -> bool:
    """Return whether a stream is copied: not the server's, caches, and the log's identity."""
    of_others = bool(stream) and not stream.startswith(("$", snapshots.PREFIX))
    return of_others and stream not in NOT_COPIED


def is_checkpoint(record: WholeRecord) -> bool:
    """Return whether only the last record of this stream matters, whatever its revision."""
    return record.event_type in CHECKPOINTS and record.stream.startswith(_OURS)


def moved(record: WholeRecord, at: At) -> WholeRecord:
    """Return a record adapted for the copy.

    Raises:
        NotCopiedYet: it has a position that is not known in the copy yet.
        UnknownRecord: it is unknown whether it has positions.
    """
    if record.stream.startswith(schedules.PREFIX):  # a domain's category may have that name
        return record._replace(data=schedules.moved_record(record.event_type, record.data, at))
    if not record.stream.startswith(_OURS):
        return record
    for prefix, (mover, known) in _MOVERS.items():
        if record.stream.startswith(prefix) and record.event_type in known:
            return record._replace(data=mover(record.event_type, record.data, at))
    raise UnknownRecord(
        f"this Rayfold does not know the type {record.event_type} of revision {record.revision} of"
        f" {record.stream}: copy the log with the Rayfold that has written it"
    )
