"""The writer's view of the streams, and the events staged for the running transaction.

Only the writer thread uses a transaction. The requests of a group are checked one after the other,
each against everything staged before it; at the end, few statements write the rows to SQLite.
"""

import sqlite3
import time
from functools import cache

from eventstore.embedded.protocol import event_encoding
from eventstore.embedded.protocol.constants import MAX, METADATA_TYPE, NO_STREAM
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.metadata import METASTREAM, NO_METADATA, StreamMetadata, interpret
from eventstore.embedded.storage.names import is_metastream, stream_flags, type_flags
from eventstore.embedded.storage.schema import INDEXED_FROM, IS_METASTREAM
from eventstore.embedded.storage.stream_names import StreamNames

_CACHED_STREAMS = 100_000
_KNOWN_METASTREAMS = 100_000
_PREFETCHED = 8_000
"""SQLite takes 32,766 parameters in a statement; further streams are loaded one by one."""
_COLUMNS = 8
_SET_RIGHT = 24 * 3600 * 10_000_000
"""Ticks of a day. If the clock is set back by more, it was wrong before, and the new time counts.
Else all events would keep the time of a clock that was years ahead for a moment."""
_ROW_CHUNKS = (64, 16, 4, 1)
"""Rows of an INSERT, largest first. Every SQLite step releases the interpreter lock and must get it
back from the busy event loop, so 128 rows should be two steps, not 128."""


class StreamState:
    """The state of a stream that checks need, as of the latest staged event."""

    __slots__ = ("flags", "ident", "last", "metadata", "name", "sid")

    def __init__(self, name: str, sid: int, last: int, metadata: StreamMetadata) -> None:
        self.name = name
        self.sid = sid
        self.last = last
        self.metadata = metadata
        self.ident = event_encoding.stream_identifier(name)
        self.flags = stream_flags(name)

    @property
    def tombstoned(self) -> bool:
        """Its last event is the tombstone."""
        return self.last == MAX

    @property
    def soft_deleted(self) -> bool:
        """Deleted, but its numbering can go on."""
        return self.last != MAX and self.metadata.soft_deleted


class WriteTransaction:
    """Stream states, the next position, and the rows waiting for the commit."""

    def __init__(self, connection: sqlite3.Connection, names: StreamNames) -> None:
        self._db = connection
        self._names = names
        self._streams: dict[str, StreamState] = {}
        self._types: dict[tuple[str, bool], tuple[int, int, bytes]] = {}
        self._rows: list[object] = []
        self._new_streams: list[object] = []
        self._new_names: list[tuple[str, int]] = []
        """New streams of the whole transaction, flushed or not."""
        self._dirty: set[int] = set()
        self.staged: list[Event] = []
        self._created = b""
        self._position: int
        self._clock: int
        self.reset()

    def reset(self) -> None:
        """Forget everything that is not on disk: at start, and after a failed commit."""
        self._streams.clear()
        self._types.clear()
        self._rows.clear()
        self._new_streams.clear()
        self._new_names.clear()
        self._dirty.clear()
        self.staged = []
        row = self._db.execute(
            "SELECT position, created FROM events ORDER BY position DESC LIMIT 1"
        ).fetchone()
        self._position, self._clock = row or (0, 0)
        names = self._db.execute(
            f"SELECT name FROM streams INDEXED BY metastreams WHERE {IS_METASTREAM} LIMIT ?",
            (_KNOWN_METASTREAMS + 1,),
        ).fetchall()
        self._metastreams: set[str] | None = {name for (name,) in names}
        """All metastreams, so that a new stream needs no second lookup; None: too many."""
        if len(names) > _KNOWN_METASTREAMS:
            self._metastreams = None
        self._next_sid = 1 + self._scalar("SELECT max(id) FROM streams")
        self._type_ids: dict[str, int] = {
            name: number for number, name in self._db.execute("SELECT id, name FROM types")
        }

    def _scalar(self, sql: str) -> int:
        (value,) = self._db.execute(sql).fetchone()
        return value or 0

    def begin(self) -> None:
        """Start a group: one clock reading for all of it, not earlier than the last one.

        Unless that one was wrong by far: see `_SET_RIGHT`.
        """
        now = time.time_ns() // 100
        if now > self._clock or now < self._clock - _SET_RIGHT:
            self._clock = now
        self._created = event_encoding.created_entry(self._clock)
        self.staged = []

    def stream(self, name: str) -> StreamState:
        """Return the state of a stream, loaded on first use."""
        state = self._streams.get(name)
        if state is None:
            state = self._streams[name] = self._load(name)
        return state

    def prefetch(self, names: list[str]) -> None:
        """Load several streams in one query each for existence, as a batch of new ones needs."""
        missing = [name for name in names if name not in self._streams][:_PREFETCHED]
        if len(missing) < 2:
            return
        for name in self._names.unknown(self._db, missing):
            if not self._may_have_metadata(name):
                plain = METASTREAM if is_metastream(name) else NO_METADATA
                self._streams[name] = StreamState(name, 0, NO_STREAM, plain)

    def _may_have_metadata(self, name: str) -> bool:
        known = self._metastreams
        return known is None or "$$" + name in known

    def _load(self, name: str) -> StreamState:
        # Needs no flush: a stream with rows waiting has its state in memory.
        sid = self._names.find(self._db, name)
        last = self._last(sid) if sid else NO_STREAM
        if is_metastream(name):
            return StreamState(name, sid, last, METASTREAM)
        latest = self.latest_metadata(name) if self._may_have_metadata(name) else None
        metadata = interpret(METADATA_TYPE, latest) if latest is not None else NO_METADATA
        return StreamState(name, sid, last, metadata)

    def _last(self, sid: int) -> int:
        row = self._db.execute(
            "SELECT revision FROM events WHERE stream = ? ORDER BY revision DESC LIMIT 1", (sid,)
        ).fetchone()
        return int(row[0]) if row else NO_STREAM

    def latest_metadata(self, name: str) -> bytes | None:
        """Return data of the last ``$metadata`` event of a stream; None if it has none."""
        state = self._streams.get("$$" + name)
        if state is not None:
            self.flush()
        row = self._db.execute(
            "SELECT resp FROM events WHERE stream = ? ORDER BY revision DESC LIMIT 1",
            (state.sid if state else self._names.find(self._db, "$$" + name),),
        ).fetchone()
        if row is None:
            return None
        record = Event(0, 0, "", 0, b"", "", 0, 0, row[0]).record()
        return record.data if record.metadata["type"] == METADATA_TYPE else b"{}"

    def revision_of(self, state: StreamState, event_id: bytes) -> tuple[int, int] | None:
        """Return revision and position of the latest event with this id in this stream."""
        if not state.sid:
            return None
        if state.sid in self._dirty:
            self.flush()
        if state.last >= INDEXED_FROM:
            row = self._db.execute(
                "SELECT revision, position FROM events INDEXED BY by_id WHERE stream = ? AND id = ?"
                f" AND revision >= {INDEXED_FROM} ORDER BY revision DESC LIMIT 1",
                (state.sid, event_id),
            ).fetchone()
            if row:
                return row[0], row[1]
        row = self._db.execute(
            "SELECT revision, position FROM events INDEXED BY by_stream WHERE stream = ?"
            f" AND revision < {INDEXED_FROM} AND id = ? ORDER BY revision DESC LIMIT 1",
            (state.sid, event_id),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def event_at(self, state: StreamState, revision: int) -> tuple[bytes, int] | None:
        """Return id and position of a revision, readable or not."""
        if not state.sid:
            return None
        if state.sid in self._dirty:
            self.flush()
        row = self._db.execute(
            "SELECT id, position FROM events WHERE stream = ? AND revision = ?",
            (state.sid, revision),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def stage(self, state: StreamState, event: Proposed, revision: int | None = None) -> Event:
        """Give an event its number and add it to the transaction; its stream is checked already."""
        if not state.sid:
            state.sid = self._next_sid
            self._next_sid += 1
            self._new_streams += (state.sid, state.name)
            self._new_names.append((state.name, state.sid))
            if self._metastreams is not None and is_metastream(state.name):
                self._metastreams.add(state.name)
        if revision is None:
            revision = state.last + 1
        kind = self._types.get((event.type, event.is_json))
        if kind is None:
            kind = self._register(event.type, event.is_json)
        type_id, flags, entries = kind
        self._position += 1
        position = self._position
        resp = event_encoding.encode_event(
            event.id,
            state.ident,
            revision,
            position,
            entries + self._created,
            event.metadata,
            event.data,
        )
        flags |= state.flags
        self._dirty.add(state.sid)
        self._rows += (
            position,
            state.sid,
            revision,
            event.id,
            type_id,
            flags,
            self._clock,
            resp,
        )
        recorded = Event(
            position, state.sid, state.name, revision, event.id, event.type, flags,
            self._clock, resp,
        )  # fmt: skip
        self.staged.append(recorded)
        state.last = revision
        if state.name.startswith("$$"):
            base = self._streams.get(state.name[2:])
            if base is not None and not is_metastream(base.name):
                base.metadata = interpret(event.type, event.data)
        return recorded

    def _register(self, name: str, is_json: bool) -> tuple[int, int, bytes]:
        number = self._type_ids.get(name)
        if number is None:
            number = len(self._type_ids) + 1
            self._db.execute("INSERT INTO types VALUES (?, ?)", (number, name))
            self._type_ids[name] = number
        if len(self._types) > 10_000:
            self._types.clear()
        kind = (number, type_flags(name), event_encoding.type_entries(name, is_json))
        self._types[name, is_json] = kind
        return kind

    def execute(self, sql: str, parameters: tuple[object, ...]) -> None:
        """Write to a table other than the log's, in the same transaction."""
        self._db.execute(sql, parameters)

    def query(self, sql: str) -> list[tuple[str]]:
        """Read such a table, including what this transaction has written."""
        return self._db.execute(sql).fetchall()

    def flush(self) -> None:
        """Write staged rows to SQLite, still within the transaction, so that queries see them."""
        if self._rows:
            self._dirty.clear()
            self._insert("streams", 2, self._new_streams)
            self._insert("events", _COLUMNS, self._rows)

    def _insert(self, table: str, columns: int, values: list[object]) -> None:
        at = 0
        for size in _ROW_CHUNKS:
            width = size * columns
            while len(values) - at >= width:
                self._db.execute(_insert_statement(table, columns, size), values[at : at + width])
                at += width
        values.clear()

    def finish(self) -> None:
        """Execute the last statements of the transaction."""
        self.flush()
        self._names.stage(self._db, len(self._new_names))

    def committed(self) -> None:
        """Publish the new names; shrink the cache to its bound, because every state can be loaded
        again now."""
        self._names.committed(self._new_names)
        self._new_names.clear()
        excess = len(self._streams) - _CACHED_STREAMS
        if excess > 0:
            for name in list(self._streams)[: excess + _CACHED_STREAMS // 10]:
                del self._streams[name]


@cache
def _insert_statement(table: str, columns: int, rows: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return f"INSERT INTO {table} VALUES " + ",".join([row] * rows)
