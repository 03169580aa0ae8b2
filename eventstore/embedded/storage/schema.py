"""The SQLite file: its tables, its version, and how connections to it are opened.

One row per event holds the ready-made response; ``by_stream`` gives a stream's revisions and
covers the id comparison of idempotent retries. Ids are indexed only beyond the first
``INDEXED_FROM`` revisions of a stream: below, scanning that part of ``by_stream`` is as quick, and
an append to a short stream touches one index page less.
"""

import sqlite3
from pathlib import Path

from eventstore.embedded.storage.stream_names import name_hash

INDEXED_FROM = 256
"""Ids of revisions at and above this one are found through ``by_id``."""

IS_METASTREAM = "name >= '$$' AND name < '$%'"

_V1 = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
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
"""

_V2 = """
CREATE TABLE groups (
    stream TEXT NOT NULL,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    PRIMARY KEY (stream, name)
) WITHOUT ROWID;
"""

_V3 = f"""
CREATE TABLE streams_3 (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO streams_3 SELECT id, name FROM streams ORDER BY id;
DROP TABLE streams;
ALTER TABLE streams_3 RENAME TO streams;
CREATE INDEX metastreams ON streams (id) WHERE {IS_METASTREAM};
CREATE TABLE names (
    hash INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (hash, id)
) WITHOUT ROWID;
INSERT INTO names SELECT name_hash(name), id FROM streams ORDER BY 1, 2;
INSERT INTO meta SELECT 'names_merged', coalesce(max(id), 0) FROM streams;
"""
"""Streams are found through ``names``, which lags behind: see ``stream_names.py``."""

MIGRATIONS = (_V1, _V2, _V3)
"""Step ``n`` leads from schema version ``n`` to ``n + 1``; steps are never edited once released."""

SCHEMA_VERSION = len(MIGRATIONS)


class SchemaTooNewError(Exception):
    """The file was written by a later release. Start that release, or another data folder."""


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection in autocommit mode; transactions are begun and ended in so many words."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: the WAL is synced at every commit. NORMAL would acknowledge what a power cut takes.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA busy_timeout=10000")
    # A commit walks over the whole page cache when the file has grown: 192 MB of it cost 15 us an
    # event at a million events. Pages that do not fit here come from the mapped file.
    connection.execute(f"PRAGMA cache_size=-{16_384 if writer else 65_536}")
    connection.execute("PRAGMA mmap_size=1073741824")
    if writer:
        # Checkpoints run in their own thread, not inside somebody's commit.
        connection.execute("PRAGMA wal_autocheckpoint=0")
    else:
        connection.execute("PRAGMA query_only=ON")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this release's schema, one transaction a step."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SchemaTooNewError(
            f"the store has schema version {version}, this release knows {SCHEMA_VERSION}: "
            "start a newer release"
        )
    connection.create_function("name_hash", 1, name_hash, deterministic=True)
    for step in range(version, SCHEMA_VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version={step + 1}; COMMIT;"
        )
