"""The tutorial of a saga: its files written, and its tests run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT, blocks_of

PAGE = blocks_of(ROOT / "docs" / "tutorial" / "a-saga.md")


def test_the_files_of_the_saga_tutorial_are_a_domain_with_passing_tests(tmp_path: Path) -> None:
    for block in PAGE:
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.source)
    described = (
        "from rayfold import Registry; r = Registry.load('travel');"
        "print(sorted(r.aggregates), sorted(r.processes), len(r.routes))"
    )
    loaded = _python(tmp_path, "-c", described)
    assert loaded == "['offer', 'trip'] ['booking'] 4\n"
    assert "7 passed" in _python(
        tmp_path, "-m", "pytest", "-q", "test_travel.py", "-p", "no:cacheprovider"
    )


def _python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
