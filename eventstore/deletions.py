"""Deleted streams, as readers of `$all` see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from eventstore.errors import StreamTombstoned
from eventstore.one_record import last_record
from eventstore.port import Log
from eventstore.records import RawRecord
from rayfold.foreign_json import UNREADABLE

DELETED = 2**63 - 1
"""As the first revision that may be read: none that was written so far."""

_METADATA = "$$"
"""In front of a stream's name: the stream that has its settings."""


class _Record(Protocol):
    @property
    def event_type(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def data(self) -> bytes: ...


CUT = "rayfold-cut"
"""The setting of a stream that a copy begins as its source was cut: its first revision. By `$tb`
alone it would have been deleted, and begun again there; once it is, that is another one."""


class _Settings(msgspec.Struct):
    truncate_before: int | None = msgspec.field(default=None, name="$tb")
    cut: int | None = msgspec.field(default=None, name=CUT)


_settings = msgspec.json.Decoder(_Settings)


def with_deletions(prefixes: Iterable[str]) -> list[str]:
    """Return what streams' names begin with for a reader who wants their deletions too."""
    prefixes = list(prefixes)
    return [*prefixes, *(f"{_METADATA}{prefix}" for prefix in prefixes)]


def is_of_the_server(raw: RawRecord) -> bool:
    """Whether the server wrote the event itself: it is none of the domain's."""
    return raw.event_type.startswith("$")


def deleted_stream(raw: _Record) -> str | None:
    """Return the stream that the event deletes, for now or for good; None: it deletes none."""
    if raw.event_type == "$streamDeleted":
        return raw.stream
    if raw.event_type != "$metadata" or not raw.stream.startswith(_METADATA):
        return None
    try:
        settings = _settings.decode(raw.data)
    except UNREADABLE:
        return None
    return raw.stream[len(_METADATA) :] if settings.truncate_before == DELETED else None


async def is_cut(log: Log, stream: str, first: int) -> bool:
    """Whether a stream of which `first` is the first revision that is left had others before it.

    Then what is left folds to something else. One that was deleted, and has begun again, goes on
    from the revision where it ended: before that nothing counts. Settings that an operator wrote
    with just that `$tb` are the same to a reader.

    Raises:
        StoreUnavailable: no answer.
    """
    if first == 0:
        return False
    try:
        last = await last_record(log, f"{_METADATA}{stream}")
        settings = _Settings() if last is None else _settings.decode(last.data)
    except (StreamTombstoned, *UNREADABLE):
        return True
    return settings.truncate_before != first or settings.cut == first
