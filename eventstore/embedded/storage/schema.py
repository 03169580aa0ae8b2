"""The SQLite file: its tables, its version, and how connections to it are opened.

One row per event holds the ready-made response; ``by_stream`` gives a stream's revisions and
covers the id comparison of idempotent retries. Ids are indexed only beyond the first
``INDEXED_FROM`` revisions of a stream: below, scanning that part of ``by_stream`` is as quick, and
an append to a short stream touches one index page less.
"""

import sqlite3
from pathlib import Path

INDEXED_FROM = 256
"""Ids of revisions at and above this one are found through ``by_id``."""

IS_METASTREAM = "name >= '$$' AND name < '$%'"

BUSY_MS = 10_000
_LONGEST_WAL = 64 * 1024 * 1024

SCHEMA_VERSION = 3
"""Of the first release; 1 and 2 never left development."""

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE INDEX metastreams ON streams (id) WHERE {IS_METASTREAM};
CREATE TABLE names (
    hash INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (hash, id)
) WITHOUT ROWID;
CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    type INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    created INTEGER NOT NULL,
    resp BLOB NOT NULL
);
CREATE UNIQUE INDEX by_stream ON events (stream, revision, id);
CREATE INDEX by_id ON events (stream, id) WHERE revision >= {INDEXED_FROM};
CREATE TABLE groups (
    stream TEXT NOT NULL,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (stream, name)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('names_merged', '0');
"""
"""Streams are found through ``names``, which lags behind: see ``stream_names.py``."""


class SchemaMismatchError(Exception):
    """The file has another schema. Use the release that wrote it, or another data folder."""


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """Open in autocommit mode; transactions are begun and ended explicitly."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: the WAL is synced at every commit. With NORMAL, a power cut loses acknowledged data.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    # A commit walks over the whole page cache when the file has grown: 192 MB of it cost 15 us an
    # event at a million events. Pages that do not fit here come from the mapped file.
    connection.execute(f"PRAGMA cache_size=-{16_384 if writer else 65_536}")
    connection.execute("PRAGMA mmap_size=1073741824")
    if writer:
        # Checkpoints run in their own thread, not within a commit.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        # While a backup reads, the WAL grows; its file is truncated when it starts over.
        connection.execute(f"PRAGMA journal_size_limit={_LONGEST_WAL}")
    else:
        connection.execute("PRAGMA query_only=ON")
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file, in one transaction.

    Raises ``SchemaMismatchError`` if the file is of another version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        raise SchemaMismatchError(
            f"the store has schema version {version}, this release reads {SCHEMA_VERSION}: "
            "start the release that wrote it, or give another data folder"
        )
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
        )
