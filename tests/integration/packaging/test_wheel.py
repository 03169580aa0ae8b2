"""The wheel as a user installs it: one top-level name, and everything works under it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from hatch_build import ROOMS, moved
from tests.conftest import ROOT
from tests.stack import Stack


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, which sees this one's dependencies but not our folders."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    install = ["install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    # On the path, but no site directory: the editable install's own .pth file is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def served(installed: Path, tmp_path: Path) -> Iterator[Stack]:
    """`rayfold up` of that environment, in an empty working folder."""
    command = [str(installed / "bin" / "rayfold")]
    # A test before this one may have told Ray where our folders are.
    stack = Stack(tmp_path / "data", command=command, folder=tmp_path, PYTHONPATH="")
    stack.start()
    yield stack
    assert stack.stop() == 0


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        top = {name.partition("/")[0] for name in names}
        assert {name for name in top if not name.endswith(".dist-info")} == {"rayfold"}
        assert "rayfold/py.typed" in names
        assert "rayfold/api/console/pages/overview.html" in names
        assert "rayfold/api/console/vendor/htmx.min.js" in names
        [points] = [name for name in names if name.endswith("entry_points.txt")]
        assert b"rayfold = rayfold.deploy.cli:main" in content.read(points)


def test_no_module_of_the_wheel_imports_a_folder_by_its_name_here(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        for name in content.namelist():
            if name.endswith(".py"):
                source = content.read(name).decode()
                assert moved(source, name) == source, name


def test_an_import_that_binds_a_folders_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"write .from actors\.host import"):
        moved("import actors.host\n", "some.py")
    assert moved("from actors.host import Host\n", "x") == "from rayfold.actors.host import Host\n"
    assert (
        moved('"""\nfrom actors.host import\n"""\n', "x") == '"""\nfrom actors.host import\n"""\n'
    )


def test_a_users_own_packages_may_be_called_as_our_folders_are(
    installed: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "domain", tmp_path / "domain")
    for room in ROOMS:
        (tmp_path / room).mkdir(exist_ok=True)
        with (tmp_path / room / "__init__.py").open("a") as module:
            module.write(f"\nMINE = {room!r}\n")
    look = "; ".join(f"import {room}; assert {room}.MINE == {room!r}" for room in ROOMS)
    load = "from rayfold.deploy.stack import settings, up; from rayfold import Registry"
    loaded = "Registry.load(settings.load().domain).owner"
    mine = f"assert {{each.__module__.partition('.')[0] for each in {loaded}}} == {{'domain'}}"
    python = [str(installed / "bin" / "python"), "-c", f"{look}; {load}; {mine}"]
    done = subprocess.run(python, cwd=tmp_path, capture_output=True, env=_clean())
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    "command", [["up"], ["events", "--eventstore", "kdb://127.0.0.1:1?Tls=false"]]
)
def test_every_command_finds_the_domain_in_the_working_folder(
    installed: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "domain").mkdir()
    (tmp_path / "domain" / "__init__.py").write_text("raise RuntimeError('this one is mine')\n")
    rayfold = [str(installed / "bin" / "rayfold"), *command]
    done = subprocess.run(rayfold, cwd=tmp_path, capture_output=True, env=_clean(), timeout=60)
    assert done.returncode == 2
    assert b"this one is mine" in done.stderr


def test_the_command_tells_its_version_and_its_help(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "bin" / "rayfold")
    for flag, told in (("--version", "rayfold "), ("--help", "event sourcing")):
        done = subprocess.run([command, flag], cwd=tmp_path, capture_output=True, env=_clean())
        assert done.returncode == 0, done.stderr.decode()
        assert told in done.stdout.decode()


def test_the_installed_command_writes_a_domain(installed: Path, tmp_path: Path) -> None:
    new = [str(installed / "bin" / "rayfold"), "new", "shop"]
    subprocess.run(new, cwd=tmp_path, check=True, capture_output=True, env=_clean())
    tests = [str(installed / "bin" / "python"), "-m", "pytest", "-q", "tests"]
    done = subprocess.run(tests, cwd=tmp_path, capture_output=True, env=_clean())
    assert done.returncode == 0, done.stdout.decode()
    for file in tmp_path.rglob("*.py"):
        assert "deploy" not in file.read_text(), file


def test_the_installed_command_serves(served: Stack) -> None:
    body = json.dumps({"customer_id": "ada"}).encode()
    order = Request(f"{served.url}/orders", body, {"Content-Type": "application/json"})
    with urlopen(order, timeout=30) as answer:
        receipt = json.load(answer)
        assert receipt["revision"] == 0
        assert answer.status == 202


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
