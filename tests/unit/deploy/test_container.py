"""The image's Dockerfile, and what runs its steps without an engine: `make image` does it whole."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hatch_build import ROOMS, packaged
from tests.documents import ROOT

CONTAINER = ROOT / "deploy" / "container"
IGNORED = (ROOT / ".dockerignore").read_text()


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    """Return the script, which is in no package."""
    spec = importlib.util.spec_from_file_location("engine", CONTAINER / "without_an_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine"] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def steps(engine: ModuleType) -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions."""
    return list(engine.instructions((CONTAINER / "Dockerfile").read_text()))


def test_every_instruction_can_be_run_without_an_engine(
    engine: ModuleType, steps: list[tuple[str, str]]
) -> None:
    assert len(steps) > 20
    for name, _ in steps:
        assert hasattr(engine.Builder, f"_{name.lower()}"), name


def test_the_image_does_not_run_as_root(steps: list[tuple[str, str]]) -> None:
    last = len(steps) - 1 - [name for name, _ in reversed(steps)].index("FROM")
    users = [text for name, text in steps[last:] if name == "USER"]
    assert users == ["10001:10001"]


def test_all_of_the_wheel_is_copied_and_nothing_else_is_in_the_context(
    engine: ModuleType, steps: list[tuple[str, str]]
) -> None:
    copied = {
        word
        for name, text in steps
        if name == "COPY" and "--from" not in text
        for word in text.split()[:-1]
    }
    files = set(engine.sent(ROOT, IGNORED))
    assert {*ROOMS, "rayfold"} <= copied
    script = "deploy/container/join-ray"
    assert copied == {path.parts[0] for path in files} | {script}
    assert Path("deploy/stack/up.py") in files
    for room in map(ROOT.joinpath, ROOMS):
        code = {file.relative_to(ROOT) for file in room.rglob("*.py") if packaged(file, room)}
        assert code <= files, "the image must have all files of the wheel"
    assert [path.as_posix() for path in files if "container" in path.parts] == [script]
    assert not any(path.suffix == ".pyc" for path in files)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("rayfold/view.py", True),
        ("api/console/pages/overview.html", True),
        ("rayfold/__pycache__/view.pyc", False),
        ("rayfold.toml", False),
        (".rayfold/ray.token", False),
        ("deploy/compose.yaml", False),
        ("deploy/errors.py", True),
        ("tests/stack.py", False),
    ],
)
def test_the_ignore_file_is_read_as_docker_does(
    engine: ModuleType, tmp_path: Path, path: str, sent: bool
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    assert list(engine.sent(tmp_path, IGNORED)) == ([Path(path)] if sent else [])


def test_packages_that_only_the_build_needs_are_removed(steps: list[tuple[str, str]]) -> None:
    [uninstall] = [text for name, text in steps if name == "RUN" and "uninstall" in text]
    removed = set(re.sub(r" && .*", "", uninstall.partition("--yes ")[2]).split())
    brought, package, why = set(), "", set[str]()
    for line in [*(ROOT / "requirements.lock").read_text().splitlines(), "end=="]:
        if not line.startswith(" "):
            if why and why <= {"hatchling", "editables"}:
                brought.add(package)
            package, why = line.partition("==")[0], set()
        elif comment := re.match(r" +#(?: via)? +(\S+)", line):
            why.add(comment[1])
    assert removed == {"hatchling", "editables"} | brought


def test_a_block_of_the_readme_is_run_as_it_is(engine: ModuleType) -> None:
    commands = engine.readme_commands((ROOT / "README.md").read_text())
    assert ["curl" in each for each in commands] == [True, False]
    assert "\nrayfold verify " in commands[1]


def test_manifests_are_not_part_of_the_wheel() -> None:
    room = ROOT / "deploy"
    assert packaged(room / "stack" / "up.py", room)
    assert packaged(room / "errors.py", room)
    assert packaged(ROOT / "api/console/pages/overview.html", ROOT / "api")
    assert not packaged(room / "container" / "without_an_engine.py", room)
    assert not packaged(room / "compose.yaml", room)
