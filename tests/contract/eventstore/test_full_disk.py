"""A full or failing disk: nothing acknowledged is lost, and work continues when possible."""

import os
import resource
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError

from eventstore.embedded.storage import writer
from tests.contract.eventstore.making import event, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY
MEGABYTE = 1024 * 1024


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    disk = folder / "disk"
    disk.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def run_as_own_root(test: str, folder: Path) -> None:
    """Run a test of this file in namespaces where whoever runs it is root, and may mount."""
    command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={folder}", f"{__file__}::{test}"]
    subprocess.run(["unshare", "--user", "--map-root-user", "--mount", *command], check=True)


def fill(client: KurrentDBClient, stream: str) -> tuple[list[uuid.UUID], str]:
    """Append until the store says no; the ids that it acknowledged, and what it said."""
    acknowledged: list[uuid.UUID] = []
    for _ in range(200):
        new = event(data=b"x" * (MEGABYTE // 4))
        try:
            client.append_to_stream(stream, current_version=ANY, events=new)
        except KurrentDBClientError as error:
            return acknowledged, str(error)
        acknowledged.append(new.id)
    raise AssertionError("the disk did not become full")


def stored(client: KurrentDBClient, stream: str) -> list[uuid.UUID]:
    return [each.id for each in client.get_stream(stream)]


def test_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        run_as_own_root(
            "test_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_room",
            tmp_path / "own",
        )
        return
    with small_disk(tmp_path, 24) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 8 * MEGABYTE)
        fill_and_make_room(disk, ServerProcess(disk / "store"), ballast)


def test_a_disk_that_is_full_behind_a_log_that_has_its_room_is_the_same(tmp_path: Path) -> None:
    """The log has preallocated room, but its index grows with the events."""
    if os.geteuid() != 0:
        run_as_own_root(
            "test_a_disk_that_is_full_behind_a_log_that_has_its_room_is_the_same", tmp_path / "own"
        )
        return
    with small_disk(tmp_path, 48) as disk:
        server = ServerProcess(disk / "store")
        wal = disk / "store" / "events.sqlite-wal"
        until(lambda: wal.exists() and wal.stat().st_size == writer._WAL_BYTES)
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        fill_and_make_room(disk, server, ballast)


def fill_and_make_room(disk: Path, server: ServerProcess, ballast: Path) -> None:
    with KurrentDBClient(server.uri) as client:
        acknowledged, said = fill(client, "order-1")
        assert "full" in said
        assert len(acknowledged) > 4
        assert stored(client, "order-1") == acknowledged
        ballast.unlink()
        new = event()
        client.append_to_stream("order-1", current_version=len(acknowledged) - 1, events=new)
        assert stored(client, "order-1") == [*acknowledged, new.id]
    code, errors = server.stop()
    assert code == 0
    assert errors.count("commits fail error='database or disk is full'") == 1
    assert errors.count("commits succeed again") == 1
    assert "Traceback" not in errors
    again = ServerProcess(disk / "store")
    with KurrentDBClient(again.uri) as client:
        assert stored(client, "order-1") == [*acknowledged, new.id]
    again.stop()


def test_a_disk_that_fails_ends_the_process_in_one_line_and_the_next_one_has_everything(
    tmp_path: Path,
) -> None:
    """A limit on the size of files leads to an I/O error in SQLite, as a broken disk does."""
    limit = 4 * MEGABYTE
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        server = ServerProcess(tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with KurrentDBClient(server.uri) as client:
        acknowledged, _ = fill(client, "order-1")
    code, errors = server.outcome()
    assert code == 1
    assert "eventstore: Writing has stopped: disk I/O error\n" in errors
    assert "Traceback" not in errors
    again = ServerProcess(tmp_path / "store")
    with KurrentDBClient(again.uri) as client:
        assert stored(client, "order-1") == acknowledged
    again.stop()


def test_the_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    (folder / "lock").touch(0o644)
    umask = os.umask(0)
    try:
        server = ServerProcess(folder)
    finally:
        os.umask(umask)
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("order-1", current_version=ANY, events=event())
    until(lambda: (folder / "events.sqlite-wal").exists())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.keys() >= {"lock", "events.sqlite", "events.sqlite-wal", "events.sqlite-shm"}
    assert set(modes.values()) == {0o600}
    server.stop()


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    code, errors = ServerProcess(tmp_path / "store").outcome()
    assert (code, errors.count("\n")) == (2, 1)
    assert sys.executable not in errors
