"""Records that belong together: what led to what, found by the ids that records carry.

No log has an index by these ids that is there on every server, so the log is read: from a place on,
backwards for what came before and forwards for what came after, each no further than it may.
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
"""Records that are read in each direction, unless more is asked for."""

MOST = 500
"""Records of one answer."""

_TOGETHER = 2_000
"""Records after the first of all is found until the search ends: those of its append lie here."""


class Origin(NamedTuple):
    """What a record says of where it comes from; empty where it says nothing.

    `command_id` is the command that it came of, `caused_by` are the commands that led to that one,
    `sends` those that it decides to send.
    """

    correlation_id: str = ""
    command_id: str = ""
    caused_by: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """Every command that it names."""
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
    except UNREADABLE:  # somebody else's
        return Origin()
    command_id, cause = found.commandId, found.caused_by
    return Origin(found.correlation_id, command_id, (cause,) if cause != command_id else ())


class Correlated(NamedTuple):
    """Records in the log's order, with what they say.

    `complete`: nothing that belongs to them was left unread. `read` counts what was looked at,
    `left_out` what belongs to them beyond `MOST`.
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
    """Return what belongs to a record, or to a command id or a correlation id; None: not found.

    An id is looked for from the log's end backwards, as it is mostly asked for soon.

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
    # From the first of them on: what it names was not known yet where it was read backwards.
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
        """Take what is asked for."""
        self._take(raw, self._origin_of(raw))

    async def backwards(self, records: AsyncGenerator[RawRecord, None], scan: int) -> bool:
        """Look for what came before; return whether the search may end here."""
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
        """Look for what came after; return whether the log's end was reached."""
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
        # Before anything is found, what is asked for may be a correlation id.
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
        # The first of all commands is its own correlation.
        if origin.command_id and origin.command_id == self.correlation_id:
            self._has_root = True
