"""Another program reads the store's file for long, as a backup does: writes continue."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from eventstore.embedded.protocol.constants import ANY
from eventstore.embedded.storage import schema, writer
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.store import Store

EVENT = 50_000
LONGEST_WAL = 20 * EVENT


async def test_no_write_waits_for_a_backup_and_the_write_ahead_log_is_cut_again_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 5 * EVENT)
    monkeypatch.setattr(writer, "_WAL_BYTES", 0)
    monkeypatch.setattr(schema, "_LONGEST_WAL", LONGEST_WAL)
    store = Store(tmp_path / "data")
    await store.start()
    [database] = (tmp_path / "data").glob("*.sqlite")
    wal = database.with_name(f"{database.name}-wal")

    async def write() -> None:
        event = Proposed(uuid.uuid4().bytes, "Noted", True, b"1" * EVENT, b"")
        async with asyncio.timeout(schema.BUSY_MS / 2000):  # as long as a write may wait, and half
            await store.submit(Append("notes-1", ANY, [event]))

    await write()
    with closing(sqlite3.connect(database)) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM events").fetchone()
        for _ in range(60):
            await write()
        assert wal.stat().st_size > 2 * LONGEST_WAL
    async with asyncio.timeout(60):
        while wal.stat().st_size > LONGEST_WAL + 2 * EVENT:
            await write()
    await store.stop()
