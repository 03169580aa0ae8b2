"""Maps positions of one log to those of a copy: each server assigns its own."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

import msgspec

from rayfold.foreign_json import UNREADABLE

At = Callable[[int], int]
"""What a position of the one log is in the other."""

Fields = dict[str, msgspec.Raw]
"""An object of JSON, its values as they stand there: nothing else of it changes."""

_decode = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.Encoder().encode


class NotCopiedYet(Exception):
    """The position is behind all that the copy is known to have."""


class Positions:
    """Where records of one log stand in the other; 16 bytes for each, in the order of both."""

    def __init__(self) -> None:
        self._old = array("q")
        self._new = array("q")

    def add(self, old: int, new: int) -> None:
        """Note where the next record stands."""
        self._old.append(old)
        self._new.append(new)

    def at(self, old: int) -> int:
        """Return where the last record stands that is not behind this position; 0 without any.

        So whoever had read up to `old` reads in the other log what they had not read, and no more.
        """
        place = bisect_right(self._old, old)
        return self._new[place - 1] if place else 0

    def at_known(self, old: int) -> int:
        """Return the same.

        Raises:
            NotCopiedYet: a record that was not noted yet may be the one.
        """
        if not self._old or old > self._old[-1]:
            raise NotCopiedYet
        return self.at(old)


def moved(data: bytes, within: Callable[[Fields], None]) -> bytes:
    """Return a record's data after `within` has changed its fields; what is no object stays.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    try:
        fields = _decode(data)
        within(fields)
    except UNREADABLE:  # somebody else's: whoever reads it sees no position in it either
        return data
    return _encode(fields)


def move(fields: Fields, at: At) -> None:
    """Change the position that an object has, if it has one."""
    found = msgspec.json.decode(fields.get("position", b"null"))
    if isinstance(found, int):
        fields["position"] = msgspec.Raw(b"%d" % at(found))


def move_within(fields: Fields, name: str, at: At) -> None:
    """Change the position of an object that is a field's value."""
    if name in fields:
        fields[name] = _moved_object(fields[name], at)


def move_each(fields: Fields, name: str, at: At) -> None:
    """Change the positions of the objects in a field's list."""
    if name in fields:
        found = msgspec.json.decode(fields[name], type=list[msgspec.Raw])
        fields[name] = msgspec.Raw(_encode([_moved_object(each, at) for each in found]))


def _moved_object(value: msgspec.Raw, at: At) -> msgspec.Raw:
    fields = _decode(value)
    move(fields, at)
    return msgspec.Raw(_encode(fields))
