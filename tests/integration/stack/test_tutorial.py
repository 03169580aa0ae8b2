"""The tutorials, followed step by step in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documents import Block, blocks_of
from tests.integration.stack.shell import Shell
from tests.stack import Stack


@pytest.fixture(scope="module", params=["a-domain-of-your-own", "a-saga"])
def tutorial(request: pytest.FixtureRequest) -> list[Block]:
    """The blocks of a tutorial."""
    return blocks_of(ROOT / "docs" / "tutorial" / f"{request.param}.md")


@pytest.fixture(scope="module")
def up(tutorial: list[Block]) -> int:
    """Where the reader starts the stack."""
    return next(at for at, block in enumerate(tutorial) if block.file == "rayfold.toml") + 1


@pytest.fixture(scope="module")
def folder(tutorial: list[Block], up: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder, with all that comes before `rayfold up` written and run: its tests."""
    folder = tmp_path_factory.mktemp("tutorial")
    shell = Shell(folder)
    for block in tutorial[:up]:
        if block.file is not None:
            (folder / block.file).write_text(block.source)
        else:
            assert block.language == "sh"
            shell.run(block.source)
    return folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    """`rayfold up` in that folder."""
    stack = Stack(folder / ".rayfold", folder=folder, PYTHONPATH=str(ROOT))
    stack.start()
    yield stack
    assert stack.stop() == 0


def test_a_tutorials_service_answers_as_the_tutorial_says(
    tutorial: list[Block], up: int, folder: Path, stack: Stack
) -> None:
    (folder / "shell").mkdir()
    shell = Shell(folder / "shell", stack.url)
    (folder / "shell" / ".rayfold").symlink_to(stack.data)
    (folder / "shell" / "rayfold.toml").symlink_to(folder / "rayfold.toml")
    said = ""
    for block in tutorial[up:]:
        if block.language == "sh":
            said = shell.run(block.source)
        else:  # a row, as one of the commands before has shown it
            assert block.language == "json"
            assert json.dumps(json.loads(block.source), separators=(",", ":")) in said
