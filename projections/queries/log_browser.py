"""The log as operators look at it: newest or oldest first, and an aggregate through time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from eventstore.errors import StreamTombstoned
from eventstore.one_record import record_at
from eventstore.personal.opening import beneath
from eventstore.port import Log
from eventstore.records import RawRecord, metadata_of
from projections.operations.audit import STREAM as OPERATORS
from projections.queries.through_time import ThroughTime
from rayfold import Registry
from rayfold.foreign_json import readable

PAGE = 50

MOST_LOOKED = 5_000
"""Events that one page looks at in search of those that are asked for; the next goes on there."""

MOST_BYTES = 4 * 1024 * 1024
"""Of events, with their metadata, after which a page ends: one alone may have 16 MiB, and the
command that an aggregate keeps is in the metadata."""

_AT_A_TIME = 500


class LogBrowser:
    """Reads a page at a time."""

    def __init__(self, registry: Registry, log: Log) -> None:
        self._log = beneath(log)  # what is encrypted is shown so: the log is no place to look it up
        self._through_time = ThroughTime(registry, log)
        self._of_aggregates = registry.prefixes
        processes = (each.prefix for each in registry.processes.values())
        self._prefixes = [*registry.prefixes, *processes, OPERATORS]

    async def page(
        self,
        *,
        stream: str = "",
        event_type: str = "",
        about: str = "",
        before: int | None = None,
        limit: int = PAGE,
    ) -> dict[str, Any]:
        """Return `events`, the newest first, and `next`: what to give as `before` for older ones.

        Of all streams of the domain, its processes and its operators, unless of one; of one type,
        or with an id (of a command, a correlation, a cause, a principal) in their metadata.
        `looked` is how many it has looked at: with few or no events and a `next`, older ones may
        match. `before` is a position, of one stream a revision.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        found: list[dict[str, Any]] = []
        looked, at, held = 0, before, 0
        size = _AT_A_TIME if event_type or about else limit + 1
        while looked < MOST_LOOKED:
            given = 0
            async with aclosing(self._back(stream, at, size)) as records:
                async for raw in records:
                    given += 1
                    if len(found) == limit:
                        return {"events": found, "next": at, "looked": looked}
                    looked += 1
                    at = raw.revision if stream else raw.position
                    if _matches(raw, event_type, about):
                        found.append(plain(raw))
                        held += _size(raw)
                        if held > MOST_BYTES:
                            return {"events": found, "next": at, "looked": looked}
            if given < size:
                return {"events": found, "next": None, "looked": looked}
        return {"events": found, "next": at, "looked": looked}

    async def after(
        self, place: int | None, *, stream: str = "", limit: int = PAGE
    ) -> dict[str, Any]:
        """Return `events` of aggregates in order, and `next`: the place that others follow.

        Of all aggregates, unless of one stream. A place is a position, of one stream a revision.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        found: list[dict[str, Any]] = []
        size, end = 0, 0
        if stream:
            reading = self._log.read_stream(stream, after=place, limit=limit)
        else:
            end = await self._log.end_position(None)
            reading = self._log.read_all(self._of_aggregates, after=place, limit=limit)
        with suppress(StreamTombstoned):
            async with aclosing(reading):
                async for raw in reading:
                    found.append(plain(raw))
                    place = raw.revision if stream else raw.position
                    size += _size(raw)
                    if size > MOST_BYTES:
                        return {"events": found, "next": place}
        if end and len(found) < limit:
            # What is left is of nobody's: whoever follows the log would go over it with each page.
            place = max(place or 0, end)
        return {"events": found, "next": place}

    async def event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """Return one event, as the log has it; None if it is not there.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        raw = await record_at(self._log, stream, revision)
        return None if raw is None else plain(raw)

    async def through_time(self, stream: str, revision: int | None = None) -> dict[str, Any] | None:
        """Return an aggregate's state after a revision, the last by default, and what led there.

        `state` and `before` are the states after and before `event`; `first` and `last` are the
        revisions that there are. Where the domain cannot read an event, `error` says so, and the
        states are those before it. None: there is no such aggregate.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        with suppress(StreamTombstoned):
            at = await self._through_time.at(stream, revision)
            if at is not None:
                return {
                    "stream": stream,
                    "first": at.first,
                    "last": at.last,
                    "event": plain(at.event),
                    "before": at.before.model_dump(mode="json"),
                    "state": at.state.model_dump(mode="json"),
                    "error": at.error or None,
                }
        return None

    async def _back(
        self, stream: str, before: int | None, limit: int
    ) -> AsyncGenerator[RawRecord, None]:
        if not stream:
            reading = self._log.read_all(self._prefixes, after=before, backwards=True, limit=limit)
        else:
            reading = self._log.read_stream(stream, after=before, backwards=True, limit=limit)
        with suppress(StreamTombstoned):
            async with aclosing(reading):
                async for raw in reading:
                    yield raw


def plain(raw: RawRecord) -> dict[str, Any]:
    """Return an event as plain data: text where it is no JSON."""
    return {
        "type": raw.event_type,
        "stream": raw.stream,
        "revision": raw.revision,
        "position": raw.position,
        "recorded_at": raw.recorded_at,
        "data": readable(raw.data),
        "metadata": metadata_of(raw),
    }


def _size(raw: RawRecord) -> int:
    return len(raw.data) + len(raw.metadata)


def _matches(raw: RawRecord, event_type: str, about: str) -> bool:
    if event_type and raw.event_type != event_type:
        return False
    return not about or about in metadata_of(raw).values()
