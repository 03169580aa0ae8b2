"""`rayfold new`: what it writes passes our own checks; and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.authoring.new import write
from deploy.cli.command_line import app
from deploy.errors import StartError
from tests.conftest import ROOT

FILES = {
    *("shop/__init__.py", "shop/account.py", "shop/views.py", "shop/routes.py"),
    *("tests/__init__.py", "tests/test_shop.py", "rayfold.toml"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(folder: Path) -> set[str]:
    """Return all of them, and folders that are empty."""
    found = [each for each in folder.rglob("*") if each.is_file() or not any(each.iterdir())]
    return {str(each.relative_to(folder)) for each in found}


def test_it_writes_a_package_its_tests_and_the_settings(folder: Path) -> None:
    assert {str(path) for path in write("shop", folder)} == FILES
    assert files_in(folder) == FILES
    assert (folder / "rayfold.toml").read_text() == 'domain = "shop"\n'


@pytest.mark.parametrize("name", ["a", "a" * 40])
def test_what_it_writes_is_formatted_however_long_the_name(folder: Path, name: str) -> None:
    write(name, folder)
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    run("-m", "ruff", "check", "--no-cache", ".", folder=folder)
    run("-m", "ruff", "format", "--no-cache", "--check", ".", folder=folder)


WITHOUT_COMMANDS = """
from typing import Never

from rayfold import Aggregate, Event, Message, Read
from rayfold.testing import Story, rows_of
from shop.views import Balances


class Taken(Event, name="Taken"):
    title: str


class TitleState(Message):
    taken: bool = False


class Title(
    Aggregate[TitleState, Never, Taken], category="title", id_field="title", initial=TitleState()
):
    @staticmethod
    def evolve(state: TitleState, event: Taken) -> TitleState:
        return TitleState(taken=True)


READS = {"title": Read(Title, by="title")}
assert not Story(Title).state_of(Title, "Emma").taken
Story(Title).state_of(Title, "Emma").takn  # type: ignore[attr-defined]
rows_of(Balances)["a"].ballance_cents  # type: ignore[attr-defined]
"""


def test_what_it_writes_passes_mypy_and_its_own_tests(folder: Path) -> None:
    """So does an aggregate that only a decision changes; mistakes in its tests are found."""
    write("shop", folder)
    (folder / "tests" / "titles.py").write_text(WITHOUT_COMMANDS)
    settings = f"--config-file={ROOT / 'pyproject.toml'}"
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    run("-m", "mypy", "--strict", settings, cache, "shop", "tests", folder=folder)
    # As `pytest` itself, which does not put the working folder on the path.
    pytest_alone = "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(['-q', 'tests']))"
    assert "6 passed" in run("-c", pytest_alone, folder=folder)


def test_a_second_package_leaves_existing_files(folder: Path) -> None:
    write("shop", folder)
    (folder / "tests" / "__init__.py").unlink()
    assert {str(path) for path in write("bank", folder)} == {
        *("bank/__init__.py", "bank/account.py", "bank/views.py", "bank/routes.py"),
        "tests/test_bank.py",
    }
    assert (folder / "rayfold.toml").read_text() == 'domain = "shop"\n'
    told = CliRunner().invoke(app, ["new", "third"]).output
    assert "rayfold dev --domain third" in told


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-shop", "write my_shop"),
        ("my.shop", "write my_shop"),
        ("1shop", "a letter, then letters"),
        ("-", "a letter, then letters"),
        ("", "a letter, then letters"),
        ("bücher", "a letter, then letters"),
        ("../shop", "a letter, then letters"),
        ("__main__", "a letter, then letters"),
        ("a" * 41, "at most 40"),
        ("class", "a reserved word of Python"),
        ("json", "a module of Python's"),
        ("pydantic", "an installed package"),
        ("rayfold", "an installed package"),
        ("tests", "an installed package"),
    ],
)
def test_an_invalid_name_is_refused(folder: Path, name: str, says: str) -> None:
    with pytest.raises(StartError, match=says):
        write(name, folder)
    assert files_in(folder) == set()


@pytest.mark.parametrize("taken", ["shop/mine.txt", "shop.py", "tests/test_shop.py"])
def test_existing_files_are_left(folder: Path, taken: str) -> None:
    (folder / taken).parent.mkdir(exist_ok=True)
    (folder / taken).write_text("mine")
    with pytest.raises(StartError, match="exists already: nothing was written"):
        write("shop", folder)
    assert files_in(folder) == {taken}
    assert (folder / taken).read_text() == "mine"


def test_if_not_all_can_be_written_nothing_is_left(folder: Path) -> None:
    (folder / "tests").write_text("no folder")
    with pytest.raises(StartError, match="cannot be written to"):
        write("shop", folder)
    assert files_in(folder) == {"tests"}


def test_wrong_settings_are_reported_before_anything_is_written(folder: Path) -> None:
    (folder / "rayfold.toml").write_text("domian = 'shop'\n")
    assert isinstance(CliRunner().invoke(app, ["new", "shop"]).exception, StartError)
    assert files_in(folder) == {"rayfold.toml"}


def run(*command: str, folder: Path) -> str:
    """Run this Python in a folder; return what it prints."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
