"""The log lines of actors appear in the terminal of `rayfold dev`, once."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from deploy.authoring.development.actor_logs import ActorLogs


def session(data: Path, name: str) -> Path:
    """Begin a session of Ray, as it does, and return the folder of its logs."""
    tmp = data / "ray" / "tmp"
    logs = tmp / name / "logs"
    logs.mkdir(parents=True)
    (tmp / "session_latest").unlink(missing_ok=True)
    (tmp / "session_latest").symlink_to(name)
    return logs


def test_each_line_is_printed_once_and_whole(tmp_path: Path) -> None:
    first = session(tmp_path, "session_1") / "worker-a-1.err"
    first.write_text("said before\n")
    logs = ActorLogs(tmp_path)
    assert logs.news() == []
    with first.open("a") as file:
        file.write(":actor_name:HostActor\nERROR it broke\nTraceback")
    assert logs.news() == ["ERROR it broke"]
    with first.open("ab") as file:
        file.write(b" \xff\n")
    assert logs.news() == ["Traceback \ufffd"]
    first.with_suffix(".out").write_text(":actor_name:HostActor\nprinted by a fold\n")
    assert logs.news() == ["printed by a fold"]
    assert logs.news() == []


def test_each_start_has_logs_of_its_own(tmp_path: Path) -> None:
    logs = ActorLogs(tmp_path)
    assert logs.news() == []
    for name in ("session_1", "session_2"):
        (session(tmp_path, name) / "worker-a-1.err").write_text(f"of {name}\n")
        assert logs.news() == [f"of {name}"]


async def test_an_error_does_not_end_the_reader(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, broken = ActorLogs(tmp_path), [OSError(errno.EIO, "Input/output error")]
    read = logs.news

    def news() -> list[str]:
        if broken:
            raise broken.pop()
        return read()

    monkeypatch.setattr(logs, "news", news)
    (session(tmp_path, "session_1") / "worker-a-1.err").write_text("ERROR a fold broke\n")
    following = asyncio.create_task(logs.follow())
    said = ""
    try:
        async with asyncio.timeout(30):
            while "ERROR a fold broke" not in said:
                await asyncio.sleep(0.01)
                said += capfd.readouterr().err
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert not broken
