"""Committed events as readers see them: streams with their readable windows, pages, filters.

It runs on the event loop with a connection of its own. A page is a few dozen rows from the page
cache, which is cheaper to read in place than in a thread. A read that may take long (a filtered
scan) is split into bounded steps, between which the loop continues.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from eventstore.embedded.protocol.constants import FLAG_SYSTEM, MAX, NO_STREAM
from eventstore.embedded.storage.event import Event
from eventstore.embedded.storage.filters import EventFilter
from eventstore.embedded.storage.metadata import METASTREAM, NO_METADATA, StreamMetadata, interpret
from eventstore.embedded.storage.names import is_metastream
from eventstore.embedded.storage.recent_events import RecentEvents
from eventstore.embedded.storage.schema import connect
from eventstore.embedded.storage.stream_names import StreamNames

_CACHED_STREAMS = 100_000
SCAN_ROWS = 2_000
"""Rows that a filtered scan looks at before it lets the loop run."""

PAGE_BYTES = 2 * 1024 * 1024

_EVENT = (
    "SELECT e.position, e.stream, e.revision, e.id, e.type, e.flags, e.created, e.resp"
    " FROM events e "
)


def _page(cursor: sqlite3.Cursor) -> tuple[list[tuple[int, bytes]], bool]:
    """Return rows up to a size limit, since events may be large, and whether some were left out."""
    rows: list[tuple[int, bytes]] = []
    size = 0
    for row in cursor:
        rows.append(row)
        size += len(row[1])
        if size > PAGE_BYTES:
            more = cursor.fetchone() is not None
            cursor.close()
            return rows, more
    return rows, False


class StreamInfo:
    """What reads need to know of a stream, kept current by ``LogReader.publish``."""

    __slots__ = ("last", "metadata", "sid")

    def __init__(self, sid: int, last: int, metadata: StreamMetadata) -> None:
        self.sid = sid
        self.last = last
        self.metadata = metadata

    @property
    def exists(self) -> bool:
        """It has events, and reads may find it."""
        return self.last != NO_STREAM and (self.last == MAX or not self.metadata.soft_deleted)


class LogReader:
    """What reads see of the log: streams, pages, filters. Knows no protocol."""

    def __init__(self, database: Path, names: StreamNames) -> None:
        self._db = connect(database, writer=False)
        self._by_name = names
        self._streams: dict[str, StreamInfo] = {}
        self._names: dict[int, str] = {}
        self._types: dict[int, str] = {}
        row = self._db.execute("SELECT max(position) FROM events").fetchone()
        self.recent = RecentEvents(row[0] or 0)
        user = self._db.execute(
            f"SELECT position FROM events WHERE flags & {FLAG_SYSTEM} = 0"
            " ORDER BY position DESC LIMIT 1"
        ).fetchone()
        self._last_user = user[0] if user else 0
        """Position of the newest event that the default filter shows: reading backwards for it
        must not walk over a long end of system events."""

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def publish(self, events: list[Event]) -> None:
        """Publish a committed group: update the caches, then wake subscribers."""
        streams = self._streams
        for event in events:
            info = streams.get(event.stream)
            if info is not None:
                info.sid = event.sid
                info.last = event.revision
            if event.stream.startswith("$$"):
                base = streams.get(event.stream[2:])
                if base is not None and not is_metastream(event.stream[2:]):
                    base.metadata = interpret(event.type, event.record().data)
            if not event.flags & FLAG_SYSTEM:
                self._last_user = event.position
        self.recent.publish(events)

    def info(self, name: str) -> StreamInfo:
        """Return the state of a stream; ``last`` is -1 if it was never written."""
        info = self._streams.get(name)
        if info is None:
            if len(self._streams) >= _CACHED_STREAMS:
                for old in list(self._streams)[: _CACHED_STREAMS // 10]:
                    del self._streams[old]
            info = self._streams[name] = self._load(name)
        return info

    def _load(self, name: str) -> StreamInfo:
        sid = self.stream_id(name)
        last = NO_STREAM
        if sid:
            row = self._db.execute(
                "SELECT revision FROM events WHERE stream = ? ORDER BY revision DESC LIMIT 1",
                (sid,),
            ).fetchone()
            last = row[0] if row else NO_STREAM
        if is_metastream(name):
            return StreamInfo(sid, last, METASTREAM)
        meta = self.stream_id("$$" + name)
        metadata = NO_METADATA
        if meta:
            newest = self._select("WHERE e.stream = ? ORDER BY e.revision DESC LIMIT 1", (meta,))
            if newest:
                metadata = interpret(newest[0].type, newest[0].record().data)
        return StreamInfo(sid, last, metadata)

    def stream_id(self, name: str) -> int:
        """Return the number of a stream; 0 if it has none."""
        return self._by_name.find(self._db, name)

    def _name(self, sid: int) -> str:
        name = self._names.get(sid)
        if name is None:
            if len(self._names) >= _CACHED_STREAMS:
                self._names.clear()
            (name,) = self._db.execute("SELECT name FROM streams WHERE id = ?", (sid,)).fetchone()
            self._names[sid] = name
        return name

    def _type(self, number: int) -> str:
        name = self._types.get(number)
        if name is None:
            (name,) = self._db.execute("SELECT name FROM types WHERE id = ?", (number,)).fetchone()
            self._types[number] = name
        return name

    def _select(self, where: str, parameters: Sequence[object]) -> list[Event]:
        rows = self._db.execute(_EVENT + where, parameters).fetchall()
        return [self._event(row) for row in rows]

    def _event(self, row: tuple[int, int, int, bytes, int, int, int, bytes]) -> Event:
        position, sid, revision, event_id, kind, flags, created, resp = row
        return Event(
            position, sid, self._name(sid), revision, event_id, self._type(kind), flags,
            created, resp,
        )  # fmt: skip

    def window(self, info: StreamInfo) -> tuple[int, int]:
        """Return the first and last readable revision; the first is behind the last if none is."""
        last, metadata = info.last, info.metadata
        first = metadata.truncate_before
        if metadata.max_count is not None:
            first = max(first, last - metadata.max_count + 1)
        first = max(first, 0)
        if metadata.max_age is not None and first <= last:
            first = self._first_unexpired(info.sid, first, last, metadata.max_age)
        return first, last

    def _first_unexpired(self, sid: int, first: int, last: int, seconds: int) -> int:
        """Return the first revision that has not expired.

        ``created`` decreases only if a clock was wrong; then later events may be kept for longer.
        """
        oldest = time.time_ns() // 100 - seconds * 10_000_000
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            row = self._db.execute(
                "SELECT created FROM events WHERE stream = ? AND revision = ?", (sid, middle)
            ).fetchone()
            if row is not None and row[0] < oldest:
                low = middle + 1
            else:
                high = middle
        return low

    def stream_forwards(
        self, sid: int, start: int, last: int, limit: int
    ) -> list[tuple[int, bytes]]:
        """Return revision and response of readable events from ``start`` up to ``last``."""
        rows, _ = _page(
            self._db.execute(
                "SELECT revision, resp FROM events WHERE stream = ? AND revision BETWEEN ? AND ?"
                " ORDER BY revision LIMIT ?",
                (sid, start, last, limit),
            )
        )
        return rows

    def stream_backwards(
        self, sid: int, start: int, first: int, limit: int
    ) -> list[tuple[int, bytes]]:
        """Return revision and response of readable events from ``start`` down to ``first``."""
        rows, _ = _page(
            self._db.execute(
                "SELECT revision, resp FROM events WHERE stream = ? AND revision BETWEEN ? AND ?"
                " ORDER BY revision DESC LIMIT ?",
                (sid, first, start, limit),
            )
        )
        return rows

    def stream_events(self, sid: int, start: int, last: int, limit: int) -> list[Event]:
        """Read like ``stream_forwards``, but whole events, for a group; at least one, and no more
        than a page's bytes."""
        events: list[Event] = []
        size = 0
        rows = self._db.execute(
            _EVENT
            + "WHERE e.stream = ? AND e.revision BETWEEN ? AND ? ORDER BY e.revision LIMIT ?",
            (sid, start, last, limit),
        )
        for row in rows:
            events.append(self._event(row))
            size += len(events[-1].resp)
            if size > PAGE_BYTES:
                rows.close()
                break
        return events

    def event_at(self, stream: str, revision: int) -> Event | None:
        """Return a readable event by stream and revision: the target of a link, say."""
        info = self.info(stream)
        if not info.exists or info.last == MAX:
            return None
        first, last = self.window(info)
        if not first <= revision <= last:
            return None
        found = self.stream_events(info.sid, revision, revision, 1)
        return found[0] if found else None

    def scan_forwards(
        self, after: int, match: EventFilter, limit: int, look_at: int = SCAN_ROWS
    ) -> tuple[list[tuple[int, bytes]], int]:
        """Take one step of ``$all`` forwards; return matches, and how far it has looked."""
        until = min(after + look_at, self.recent.last_position)
        rows, cut = self._matches(match, "> ? AND position <= ?", "ASC", (after, until), limit)
        return rows, rows[-1][0] if cut or len(rows) == limit else until

    def scan_backwards(
        self, before: int, match: EventFilter, limit: int
    ) -> tuple[list[tuple[int, bytes]], int]:
        """Take one step of ``$all`` backwards; return matches, and how far it has looked."""
        if match.is_default:
            before = min(before, self._last_user + 1)
        down_to = max(before - SCAN_ROWS, 0)
        span = "< ? AND position >= ?"
        rows, cut = self._matches(match, span, "DESC", (before, down_to), limit)
        return rows, rows[-1][0] if cut or len(rows) == limit else down_to

    def _matches(
        self, match: EventFilter, span: str, order: str, bounds: tuple[int, int], limit: int
    ) -> tuple[list[tuple[int, bytes]], bool]:
        if match.sql is not None:
            return _page(
                self._db.execute(
                    f"SELECT position, resp FROM events WHERE position {span} AND {match.sql}"
                    f" ORDER BY position {order} LIMIT ?",
                    (*bounds, limit),
                )
            )
        slim = self._db.execute(
            "SELECT position, stream, type FROM events"
            f" WHERE position {span} AND flags & 1 = 0 ORDER BY position {order}",
            bounds,
        )
        hits: list[int] = []
        look_at = limit  # a read of the last event seldom needs more than one row
        while len(hits) < limit and (rows := slim.fetchmany(look_at)):
            hits += [
                position
                for position, sid, kind in rows
                if match.matches(self._name(sid), self._type(kind))
            ]
            look_at = min(2 * look_at, SCAN_ROWS)
        slim.close()
        del hits[limit:]
        if not hits:
            return [], False
        marks = ",".join("?" * len(hits))
        return _page(
            self._db.execute(
                f"SELECT position, resp FROM events WHERE position IN ({marks})"
                f" ORDER BY position {order}",
                hits,
            )
        )

    def events_at(self, positions: Sequence[int]) -> list[Event]:
        """Return whole events by position, in position order."""
        marks = ",".join("?" * len(positions))
        return self._select(f"WHERE e.position IN ({marks}) ORDER BY e.position", positions)

    def query(self, sql: str) -> list[tuple[str]]:
        """Read a table other than the log's."""
        return self._db.execute(sql).fetchall()
