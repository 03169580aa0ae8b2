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
"""The `$tb` of a deleted stream: no event that was written so far may be read."""

_METADATA = "$$"
"""The prefix of a stream's name that gives the stream with its settings."""


class _Record(Protocol):
    @property
    def event_type(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def data(self) -> bytes: ...


CUT = "rayfold-cut"
"""The setting by which a copied log says that the source stream was truncated: its first revision.
With `$tb` alone it would look deleted and begun again; if that happens, this setting is gone."""


class _Settings(msgspec.Struct):
    truncate_before: int | None = msgspec.field(default=None, name="$tb")
    cut: int | None = msgspec.field(default=None, name=CUT)


_settings = msgspec.json.Decoder(_Settings)


def with_deletions(prefixes: Iterable[str]) -> list[str]:
    """Return the stream prefixes for a reader who wants the streams' deletions too."""
    prefixes = list(prefixes)
    return [*prefixes, *(f"{_METADATA}{prefix}" for prefix in prefixes)]


def is_of_the_server(raw: RawRecord) -> bool:
    """Return whether the server wrote the event itself, so that it is not the domain's."""
    return raw.event_type.startswith("$")


def deleted_stream(raw: _Record) -> str | None:
    """Return the stream that the event deletes or tombstones; None if it deletes none."""
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
    """Return whether a stream was truncated; `first` is the first revision that is left.

    What is left of a truncated stream folds to another state. In contrast, a stream that was
    deleted and begun again continues after its last revision, and nothing before that counts. A
    reader cannot tell it from one for which an operator has set just that `$tb`.

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
