"""Ray's sockets and logs are in a folder of this user's alone, which does not grow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from deploy.errors import StartError
from deploy.stack import ray_folder

ENDED = 4_194_305
"""No process has this number."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A data folder whose path is as short as that of a user's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def long(short: Path) -> Path:
    """One in which no socket can be."""
    folder = short / ("long" * 25)
    folder.mkdir()
    return folder


@pytest.fixture
def temporary(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is temporary."""
    folder = short / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def session(folder: Path, at: str) -> Path:
    made = folder / f"session_{at}_1"
    (made / "logs").mkdir(parents=True)
    return made


def test_the_folder_is_in_the_data_folder_and_closed_to_others(short: Path) -> None:
    (short / "ray").mkdir(mode=0o777)
    assert ray_folder.prepared(short) == short / "ray" / ray_folder.INSIDE
    assert S_IMODE((short / "ray").stat().st_mode) == 0o700


def test_a_file_in_its_place_is_reported_in_one_line(short: Path) -> None:
    (short / "ray").touch()
    with pytest.raises(StartError, match=r"cannot be set up: .*/ray"):
        ray_folder.prepared(short)


def test_the_files_of_the_last_session_are_kept_and_nothing_older(short: Path) -> None:
    folder = ray_folder.prepared(short)
    sessions = [session(folder, f"2026-11-2{day}_00-00-00_000000") for day in (1, 3, 2)]
    ray_folder.prepared(short)
    assert [each.exists() for each in sessions] == [False, True, False]


@pytest.mark.parametrize("name", ["long" * 25, "with a space", "größe", "a,b"])
def test_outside_of_the_data_folder_it_has_the_same_path_at_each_start(
    short: Path, temporary: Path, name: str
) -> None:
    """If its path is too long for a socket, or has characters that Ray does not pass on."""
    data = short / name
    data.mkdir()
    folder = ray_folder.prepared(data)
    assert folder.parent == (data / "ray").readlink()
    assert folder.parent.parent == temporary
    assert S_IMODE(folder.parent.stat().st_mode) == 0o700
    old, last = (session(folder, f"2026-11-2{day}_00-00-00_000000") for day in (1, 2))
    assert ray_folder.prepared(data) == folder
    assert (old.exists(), last.exists()) == (False, True)


def test_a_data_folder_may_move_to_a_longer_path(long: Path, temporary: Path) -> None:
    session(long / "ray" / ray_folder.INSIDE, "2026-11-21_00-00-00_000000")
    assert ray_folder.prepared(long).parent == (long / "ray").readlink()


def test_a_link_to_a_folder_that_others_may_enter_is_not_followed(
    long: Path, temporary: Path
) -> None:
    theirs = temporary / "rayfold-guessed"
    theirs.mkdir(mode=0o755)
    inside = theirs / ray_folder.INSIDE
    kept = session(inside, "2026-11-21_00-00-00_000000")
    session(inside, "2026-11-22_00-00-00_000000")
    (long / "ray").symlink_to(theirs)
    assert ray_folder.prepared(long) != inside
    assert kept.exists()


def test_a_link_whose_folder_is_gone_is_made_again(long: Path, temporary: Path) -> None:
    ray_folder.prepared(long).parent.rmdir()
    assert ray_folder.prepared(long).parent.is_dir()


def test_old_logs_of_workers_that_ended_are_removed_and_no_others(short: Path) -> None:
    logs = session(ray_folder.prepared(short), "2026-11-21_00-00-00_000000") / "logs"
    (logs.parent.parent / ray_folder.LATEST).symlink_to(logs.parent.name)
    names = {
        f"worker-abc-01000000-{ENDED}.out": False,
        f"worker-abc-01000000-{ENDED}.err": False,
        f"python-core-worker-abc_{ENDED}.log": False,
        f"python-core-worker-abc_{os.getpid()}.log": True,
        f"python-core-driver-abc_{ENDED}.log": True,
        "raylet.out": True,
    }
    for name in names:
        (logs / name).touch()
        os.utime(logs / name, (0, 0))
    (recent := logs / f"worker-def-01000000-{ENDED}.err").touch()
    ray_folder.remove_old_logs(short)
    assert {name: (logs / name).exists() for name in names} == names
    assert recent.exists()


def test_without_a_session_no_logs_are_searched(short: Path) -> None:
    ray_folder.remove_old_logs(short)
