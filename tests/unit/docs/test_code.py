"""The code in README.md and docs/ does what the text says."""

from __future__ import annotations

import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from deploy.cli.command_line import app
from deploy.stack.settings import Settings
from rayfold import Registry
from tests.documents import PAGES, ROOT, Block, blocks_of, run_python

TUTORIALS = [*(ROOT / "docs" / "tutorial").glob("*.md")]  # are followed by tests of their own
SHELL = ("sh", "console")


def pages_with(*languages: str) -> list[Path]:
    """Return the pages that have blocks of one of these languages."""
    return [page for page in PAGES if any(b.language in languages for b in blocks_of(page))]


def name_of(page: Path) -> str:
    """Return what a test is called by."""
    return str(page.relative_to(ROOT))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that the blocks of one page are run in, as if they were its source."""
    made = ModuleType("documented")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize(
    "page", [page for page in pages_with("python") if page not in TUTORIALS], ids=name_of
)
def test_the_python_of_a_page_runs(page: Path, module: ModuleType) -> None:
    assert run_python(page, module) > 0


def test_the_readme_has_a_complete_domain(module: ModuleType) -> None:
    run_python(ROOT / "README.md", module)
    registry = Registry([module])
    assert set(registry.aggregates) == {"shelf"}
    assert len(registry.routes) == 2


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_the_settings_of_a_page_are_settings(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.language == "toml":
            given = tomllib.loads(block.source)
            (tmp_path / "rayfold.toml").write_text(block.source)
            settings = Settings()
            assert given
            assert settings.model_fields_set == set(given), f"{page}:{block.line}"


def commands_of(block: Block) -> Iterator[list[str]]:
    """Yield what stands behind `rayfold` in each line of a block of shell."""
    for line in block.source.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for at, word in enumerate(words):
            begins = at == 0 or words[at - 1] in ("!", "--", "gateway")  # the last: Compose's
            if begins and word in ("rayfold", ".venv/bin/rayfold"):
                yield words[at + 1 :]


@pytest.mark.parametrize("page", pages_with(*SHELL), ids=name_of)
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    for block in blocks_of(page):
        for words in commands_of(block) if block.language in SHELL else ():
            command, rest = typer.main.get_command(app), words
            while hasattr(command, "commands"):
                command, rest = command.commands[rest[0]], rest[1:]
            command.make_context(words[0], rest)  # raises what the command line would say


def test_blocks_are_found_with_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\n# a/b.py\nx = 1\n```\n\n```sh\nls\n```\n")
    python, shell = blocks_of(page)
    assert (python.language, python.line, python.file) == ("python", 3, "a/b.py")
    assert (shell.language, shell.source, shell.file) == ("sh", "ls\n", None)


def test_code_that_fails_names_its_page_and_line(tmp_path: Path, module: ModuleType) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nassert 1 == 1\nassert 1 == 2\n```\n")
    with pytest.raises(AssertionError) as failed:
        run_python(page, module)
    assert (str(failed.traceback[-1].path), failed.traceback[-1].lineno + 1) == (str(page), 5)
