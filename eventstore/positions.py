"""Maps positions of one log to those of a copy: each server assigns its own."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

import msgspec

from rayfold.foreign_json import UNREADABLE

At = Callable[[int], int]
"""Maps a position of one log to that of the other."""

Fields = dict[str, msgspec.Raw]
"""A JSON object whose values are kept as their original bytes, so that nothing else changes."""

_decode = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.Encoder().encode


class NotCopiedYet(Exception):
    """The position is after all records that are known to be copied."""


class Positions:
    """The positions of records in both logs; 16 bytes for each record, in the order of both."""

    def __init__(self) -> None:
        self._old = array("q")
        self._new = array("q")

    def add(self, old: int, new: int) -> None:
        """Add the positions of the next record."""
        self._old.append(old)
        self._new.append(new)

    def at(self, old: int) -> int:
        """Return the new position of the last record at or before `old`; 0 if there is none.

        So a reader that had read up to `old` continues in the other log with the first unread one.
        """
        place = bisect_right(self._old, old)
        return self._new[place - 1] if place else 0

    def at_known(self, old: int) -> int:
        """Return the same as `at`.

        Raises:
            NotCopiedYet: the record may be one that was not added yet.
        """
        if not self._old or old > self._old[-1]:
            raise NotCopiedYet
        return self.at(old)


def moved(data: bytes, within: Callable[[Fields], None]) -> bytes:
    """Return a record's data after `within` has changed its fields; unchanged if not an object.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    try:
        fields = _decode(data)
        within(fields)
    except UNREADABLE:  # foreign data, in which readers see no position either
        return data
    return _encode(fields)


def move(fields: Fields, at: At) -> None:
    """Map the position in an object, if it has one."""
    found = msgspec.json.decode(fields.get("position", b"null"))
    if isinstance(found, int):
        fields["position"] = msgspec.Raw(b"%d" % at(found))


def move_within(fields: Fields, name: str, at: At) -> None:
    """Map the position in the object that is a field's value."""
    if name in fields:
        fields[name] = _moved_object(fields[name], at)


def move_each(fields: Fields, name: str, at: At) -> None:
    """Map the positions in the objects of a field's list."""
    if name in fields:
        found = msgspec.json.decode(fields[name], type=list[msgspec.Raw])
        fields[name] = msgspec.Raw(_encode([_moved_object(each, at) for each in found]))


def _moved_object(value: msgspec.Raw, at: At) -> msgspec.Raw:
    fields = _decode(value)
    move(fields, at)
    return msgspec.Raw(_encode(fields))
