"""The tutorial, followed step by step in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.documents import blocks_of
from tests.integration.stack.shell import Shell
from tests.stack import Stack

TUTORIAL = blocks_of(ROOT / "docs" / "tutorial" / "a-domain-of-your-own.md")
UP = next(at for at, block in enumerate(TUTORIAL) if block.file == "rayfold.toml") + 1
"""Where the reader starts the stack."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder, with all that comes before `rayfold up` written and run."""
    folder = tmp_path_factory.mktemp("tutorial")
    shell = Shell(folder)
    for block in TUTORIAL[:UP]:
        if block.file is not None:
            (folder / block.file).write_text(block.source)
        else:
            assert block.language == "sh"
            shell.run(block.source)
    return folder


@pytest.fixture(scope="module")
def library(folder: Path) -> Iterator[Stack]:
    """`rayfold up` in that folder."""
    stack = Stack(folder / ".rayfold", folder=folder, PYTHONPATH=str(ROOT))
    stack.start()
    yield stack
    assert stack.stop() == 0


def test_the_files_of_the_tutorial_are_a_domain_with_passing_tests(folder: Path) -> None:
    assert (folder / "library" / "routes.py").exists()  # its tests ran in the fixture


def test_the_tutorials_service_answers_as_the_tutorial_says(folder: Path, library: Stack) -> None:
    (folder / "shell").mkdir()
    shell = Shell(folder / "shell", library.url)
    (folder / "shell" / ".rayfold").symlink_to(library.data)
    (folder / "shell" / "rayfold.toml").symlink_to(folder / "rayfold.toml")
    shown = None
    for block in TUTORIAL[UP:]:
        if block.language == "sh":
            shell.run(block.source)
        else:
            assert block.language == "json"
            shown = json.loads(block.source)
    assert httpx.get(f"{library.url}/copies/c1").json() == shown
