"""A crash while a small file is written leaves the one before, never a piece of one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from deploy.stack import whole_file
from deploy.stack.lease import owner_of
from deploy.stack.whole_file import once_written, write_whole


class Crash(BaseException):
    """Instead of what would have come next."""


def test_a_file_is_written_completely_and_only_for_its_owner(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "one")
    write_whole(tmp_path / "file", "2")
    assert (tmp_path / "file").read_text() == "2"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_crash_before_the_end_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "file", "one")

    def crash(descriptor: int) -> None:
        raise Crash

    monkeypatch.setattr(whole_file.os, "fsync", crash)
    with pytest.raises(Crash):
        write_whole(tmp_path / "file", "two")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "one"
    write_whole(tmp_path / "file", "three")
    assert (tmp_path / "file").read_text() == "three"


def test_a_full_disk_leaves_the_file_as_it_was_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "file", "one")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", "two")
    assert (tmp_path / "file").read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


def test_an_existing_file_stays(tmp_path: Path) -> None:
    assert once_written(tmp_path / "file", lambda: "one") == "one"
    assert once_written(tmp_path / "file", lambda: "two") == "one"


def test_an_owner_that_a_crash_left_empty_gets_a_name(tmp_path: Path) -> None:
    (tmp_path / "owner").touch()
    owner = owner_of(tmp_path)
    assert len(owner) == 32
    assert owner_of(tmp_path) == owner
