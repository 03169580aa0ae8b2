"""What the log records about keys: which set of keys it needs, and which keys are destroyed.

By these notes a stack finds that the database of keys was lost or restored to an earlier state:
without the keys nothing can be read, and older keys would decrypt data of forgotten subjects.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from eventstore.errors import StoreUnavailable
from eventstore.port import ANY, Appended, AppendResult, Conflict, Log, StreamAppend
from eventstore.records import NewRecord

STREAM = "rayfold-personal-keys"

_NAMED = "KeysNamed"
_DESTROYED = "KeysDestroyed"
TYPES = (_NAMED, _DESTROYED)


class _Named(msgspec.Struct):
    id: UUID


class _Destroyed(msgspec.Struct):
    keys: list[UUID]


_named = msgspec.json.Decoder(_Named).decode
_destroyed = msgspec.json.Decoder(_Destroyed).decode


class Witness(NamedTuple):
    """The set of keys that the log needs, and the destroyed keys."""

    keys: UUID
    destroyed: set[UUID]


async def witness(log: Log, keys: UUID) -> Witness:
    """Return the log's notes; a log without a note is bound to the set `keys` from now on.

    Raises:
        StoreUnavailable: no answer.
    """
    while True:
        found: UUID | None = None
        last: int | None = None
        destroyed: set[UUID] = set()
        async for raw in log.read_stream(STREAM):
            last = raw.revision
            if raw.event_type == _NAMED and found is None:
                found = _named(raw.data).id
            elif raw.event_type == _DESTROYED:
                destroyed.update(_destroyed(raw.data).keys)
        if found is not None:
            return Witness(found, destroyed)
        record = NewRecord(_NAMED, msgspec.json.encode(_Named(keys)), {}, str(uuid4()))
        [result] = await log.append([StreamAppend(STREAM, last, [record])])
        if not isinstance(result, Conflict):  # on a conflict, another process was first
            _taken(result)
            return Witness(keys, destroyed)


async def note_destroyed(log: Log, ids: Collection[UUID]) -> None:
    """Note on the log that keys will be destroyed, before that is done.

    Raises:
        StoreUnavailable: the note may be missing.
    """
    data = msgspec.json.encode(_Destroyed([*ids]))
    record = NewRecord(_DESTROYED, data, {}, str(uuid4()))
    [result] = await log.append([StreamAppend(STREAM, ANY, [record])])
    _taken(result)


def _taken(result: AppendResult) -> None:
    if not isinstance(result, Appended):
        raise StoreUnavailable(f"the stream {STREAM} refuses its record: {result}")
