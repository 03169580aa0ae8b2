"""A server that dies comes back; one that cannot start says so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.errors import StartError
from deploy.stack import child_process
from deploy.stack.child_process import ChildProcess

SERVER = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


class _Server(ChildProcess):
    """Says its pid."""

    name = "server"
    title = "the server"
    code = SERVER

    async def _command(self) -> Sequence[str]:
        return (sys.executable, "-c", self.code)

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise StartError("it ended")
        return line.decode().strip()


async def test_a_killed_server_is_started_again_and_counted(tmp_path: Path) -> None:
    server = _Server(tmp_path / "data")
    pid = int(await server.start())
    try:
        assert server.status() == {"ready": True, "restarts": 0, "pid": pid}
        assert os.getpgid(pid) == pid  # a terminal's Ctrl-C is for us
        assert os.getsid(pid) == os.getsid(0)  # the kernel shares cores out among sessions
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while server.status()["restarts"] == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        now = server.status()
        assert now["ready"] is True
        assert now["pid"] != pid
    finally:
        await server.stop()
    assert server.status()["ready"] is False
    with pytest.raises(ProcessLookupError):
        os.kill(now["pid"], 0)


async def test_a_server_that_ends_at_once_is_an_error_with_the_place_of_its_log(
    tmp_path: Path,
) -> None:
    server = _Server(tmp_path / "data")
    server.code = "import sys; sys.exit('no disk')"
    with pytest.raises(StartError, match=r"the server did not start: see .*server\.log"):
        await server.start()
    assert "no disk" in (tmp_path / "server.log").read_text()


async def test_a_large_log_of_a_server_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOOK", 0.001)
    monkeypatch.setattr(child_process, "LONGEST_LOG", 10_000)
    (tmp_path / "server.log").write_text("of a start before\n" * 1000)
    server = _Server(tmp_path / "data")
    server.code = "import os\nprint('ready', flush=True)\nwhile True: os.write(2, b'refused\\n')"
    await server.start()
    before = tmp_path / "server.log.1"
    before.touch()
    try:
        async with asyncio.timeout(30):
            while not before.read_text().startswith("refused"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    finally:
        await server.stop()
    said = before.read_text() + (tmp_path / "server.log").read_text()
    assert "of a start before" not in said
    assert "\0" not in said  # what is written after that is at its beginning


async def test_a_log_is_cut_although_the_disk_has_no_room_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOOK", 0.001)
    monkeypatch.setattr(child_process, "LONGEST_LOG", 10_000)
    copied = tmp_path / "server.log.1"
    copied.symlink_to("/dev/full")
    said = tmp_path / "server.log"
    said.write_text("of a start before\n" * 1000)
    server = _Server(tmp_path / "data")
    await server.start()
    try:
        async with asyncio.timeout(30):
            while said.stat().st_size:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    finally:
        await server.stop()
    assert not copied.is_symlink()
