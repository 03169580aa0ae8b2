"""The write-ahead log gets its disk space in advance, and gives back what it cannot get."""

from __future__ import annotations

import asyncio
import os
import resource
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventstore.embedded.protocol.constants import ANY
from eventstore.embedded.storage import writer
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.preallocation import preallocate
from eventstore.embedded.storage.store import Store

SIZE = 3 * 1024 * 1024 + 7


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_file_holds_stays_and_zeros_follow(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.write_bytes(b"frames")
    preallocate(wal, SIZE)
    assert wal.read_bytes() == b"frames".ljust(SIZE, b"\0")


def test_a_file_that_is_longer_is_left_alone(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.write_bytes(b"frames" * SIZE)
    preallocate(wal, SIZE)
    assert wal.stat().st_size == 6 * SIZE


def test_on_a_full_disk_the_preallocated_space_is_given_back(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.write_bytes(b"frames")
    with no_file_above(SIZE // 2):
        preallocate(wal, SIZE)
    assert wal.read_bytes() == b"frames"


def test_no_file_is_made(tmp_path: Path) -> None:
    preallocate(tmp_path / "wal", SIZE)
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_opened_is_left_as_it_is(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.mkdir()
    preallocate(wal, SIZE)
    assert wal.is_dir()


async def append(store: Store, stream: str) -> None:
    event = Proposed(uuid.uuid4().bytes, "Noted", True, b'"%b"' % (b"1" * 500), b"")
    async with asyncio.timeout(30):
        await store.submit(Append(stream, ANY, [event]))


async def test_commits_reuse_the_preallocated_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 1024 * 1024)
    monkeypatch.setattr(writer, "_WAL_BYTES", SIZE)
    store = Store(tmp_path)
    await store.start()
    wal = tmp_path / "events.sqlite-wal"
    sizes = set()
    for number in range(1_000):  # some 12 MB of pages
        await append(store, f"notes-{number}")
        sizes.add(wal.stat().st_size)
    assert sizes == {SIZE}
    await store.stop()
    assert not wal.exists()
    again = Store(tmp_path)
    assert again.log.recent.last_position > 0
    await again.start()
    await append(again, "notes-0")
    await again.stop()
