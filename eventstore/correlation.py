"""Finds records that belong together (causes and effects) by the ids in their metadata.

Not every server has an index by these ids, so the log is read from one place: backwards for causes
and forwards for effects, each within a limit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from eventstore.port import Log
from eventstore.records import RawRecord
from rayfold.foreign_json import UNREADABLE

SCAN = 50_000
"""The number of records to read in each direction, by default."""

MOST = 500
"""The most records in one answer."""

_TOGETHER = 2_000
"""Records that are still read after the first cause was found: others of its append are near."""


class Origin(NamedTuple):
    """What a record says of its origin; a field is empty if the record does not say.

    `command_id` is the command that led to the record, `caused_by` are the commands that led to
    that command, `sends` are commands that the record decides to send.
    """

    correlation_id: str = ""
    command_id: str = ""
    caused_by: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """All commands that the record names."""
        named = (self.command_id, *self.caused_by, *self.sends)
        return tuple(each for each in named if each)


class _Ids(
    msgspec.Struct, rename={"correlation_id": "$correlationId", "caused_by": "$causationId"}
):
    correlation_id: str = ""
    caused_by: str = ""
    commandId: str = ""


_ids = msgspec.json.Decoder(_Ids).decode


def origin_of_event(raw: RawRecord) -> Origin:
    """Return what an event's metadata says."""
    try:
        found = _ids(raw.metadata)
    except UNREADABLE:  # metadata of another system
        return Origin()
    command_id, cause = found.commandId, found.caused_by
    return Origin(found.correlation_id, command_id, (cause,) if cause != command_id else ())


class Correlated(NamedTuple):
    """Records in the log's order, with their origins.

    `complete`: all related records were read. `read` counts the records that were read, `left_out`
    the related ones beyond `MOST`.
    """

    correlation_id: str
    records: list[tuple[RawRecord, Origin]]
    complete: bool
    read: int
    left_out: int


async def correlated(
    log: Log,
    prefixes: Sequence[str],
    asked: str | RawRecord,
    *,
    origin_of: Callable[[RawRecord], Origin] = origin_of_event,
    scan: int = SCAN,
) -> Correlated | None:
    """Return the records related to a record, a command id or a correlation id; None: not found.

    An id is sought backwards from the log's end, because most are asked for soon after.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    search = _Search(origin_of)
    if isinstance(asked, str):
        search.wanted.add(asked)
        start = None
    else:
        start = asked.position
        search.begin(asked)
    back = await search.backwards(log.read_all(prefixes, after=start, backwards=True), scan)
    if not search.found:
        return None
    first = min(search.found)
    # Forwards from the first one: ids that it names were unknown while reading backwards.
    forth = await search.forwards(log.read_all(prefixes, after=first), scan)
    records = [search.found[position] for position in sorted(search.found)]
    whole = back and forth and not search.left_out
    return Correlated(search.correlation_id, records, whole, search.read, search.left_out)


class _Search:
    def __init__(self, origin_of: Callable[[RawRecord], Origin]) -> None:
        self._origin_of = origin_of
        self.wanted: set[str] = set()
        self.correlation_id = ""
        self.found: dict[int, tuple[RawRecord, Origin]] = {}
        self.left_out = 0
        self.read = 0
        self._has_root = False

    def begin(self, raw: RawRecord) -> None:
        """Begin with the given record."""
        self._take(raw, self._origin_of(raw))

    async def backwards(self, records: AsyncGenerator[RawRecord, None], scan: int) -> bool:
        """Look for earlier related records; return whether the first cause was found."""
        since_root, looked = 0, 0
        async with aclosing(records):
            async for raw in records:
                looked += 1
                matched = self._look(raw)
                since_root = since_root + 1 if self._has_root and not matched else 0
                if since_root >= _TOGETHER:
                    return True
                if looked >= scan:
                    return False
        return True

    async def forwards(self, records: AsyncGenerator[RawRecord, None], scan: int) -> bool:
        """Look for later related records; return whether the log's end was reached."""
        looked = 0
        async with aclosing(records):
            async for raw in records:
                looked += 1
                self._look(raw)
                if looked >= scan:
                    return False
        return True

    def _look(self, raw: RawRecord) -> bool:
        self.read += 1
        if raw.position in self.found:
            return True
        origin = self._origin_of(raw)
        # Until a record is found, the id may also be a correlation id.
        wanted = {self.correlation_id} if self.correlation_id else self.wanted
        correlated = origin.correlation_id != "" and origin.correlation_id in wanted
        if not correlated and self.wanted.isdisjoint(origin.commands):
            return False
        if len(self.found) >= MOST:
            self.left_out += 1
            return True
        self._take(raw, origin)
        return True

    def _take(self, raw: RawRecord, origin: Origin) -> None:
        self.found[raw.position] = raw, origin
        self.correlation_id = self.correlation_id or origin.correlation_id
        self.wanted.update(origin.commands)
        # The id of the first command is the correlation id.
        if origin.command_id and origin.command_id == self.correlation_id:
            self._has_root = True
