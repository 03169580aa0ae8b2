"""What the command says where its output, or its folder, is not to be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.stack import rayfold


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_no_success(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*rayfold(), "--version"],
            env={"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.stderr == "rayfold: cannot write: No space left on device\n"
    assert result.returncode == 2


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *rayfold(), "check"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr == "rayfold: the working folder is not there: No such file or directory\n"
    assert result.returncode == 2
