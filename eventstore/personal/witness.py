"""What the log records about keys: which set of keys it needs, and which keys are destroyed.

A database that was lost, or restored to an earlier moment, is found out by it: without the keys
nothing could be read, and with those of before somebody would be remembered who was forgotten.
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
    """Which keys the log needs, and those that were destroyed."""

    keys: UUID
    destroyed: set[UUID]


async def witness(log: Log, keys: UUID) -> Witness:
    """Return what the log says; a log without personal data needs `keys` from now on.

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
        if not isinstance(result, Conflict):  # then another one was first
            _taken(result)
            return Witness(keys, destroyed)


async def note_destroyed(log: Log, ids: Collection[UUID]) -> None:
    """Note that keys are to be destroyed, before they are.

    Raises:
        StoreUnavailable: it may not be noted.
    """
    data = msgspec.json.encode(_Destroyed([*ids]))
    record = NewRecord(_DESTROYED, data, {}, str(uuid4()))
    [result] = await log.append([StreamAppend(STREAM, ANY, [record])])
    _taken(result)


def _taken(result: AppendResult) -> None:
    if not isinstance(result, Appended):
        raise StoreUnavailable(f"the stream {STREAM} takes no record: {result}")
