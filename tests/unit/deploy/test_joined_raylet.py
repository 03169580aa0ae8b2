"""Whether a raylet that somebody else started still runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deploy.raylet.joined import JoinedRaylet


def test_another_raylet_at_the_same_path_is_not_the_joined_one(tmp_path: Path) -> None:
    path = tmp_path / "raylet"
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))
        first.listen()
        joined = JoinedRaylet(str(path))
        assert joined.runs
        accepted, _ = first.accept()
        assert joined.runs
    path.unlink()
    with socket.socket(socket.AF_UNIX) as second:
        second.bind(str(path))
        second.listen()
        accepted.close()
        assert not joined.runs
    joined.close()


def test_joining_a_missing_raylet_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        JoinedRaylet(str(tmp_path / "raylet"))
