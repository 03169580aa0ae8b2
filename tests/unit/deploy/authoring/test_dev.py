"""`rayfold dev`: what it watches, and that it takes what `up` takes. It serves in integration/."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import typer.main

from deploy.authoring.development.changes import Changes, place_of
from deploy.authoring.development.dev import _is_sound, _serve, dev
from deploy.authoring.development.served import Served
from deploy.authoring.new import write
from deploy.cli.command_line import app
from deploy.errors import StartError

SOON = 30.0


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write("watched_shop", tmp_path)
    return tmp_path / "watched_shop"


@pytest.fixture
async def changes(package: Path) -> AsyncIterator[Changes]:
    """What changes of it."""
    async with Changes() as watched:
        watched.follow(package)
        await seen(watched, package / "begun.py")
        yield watched


async def seen(changes: Changes, file: Path) -> None:
    """Write the file until it is seen: watching begins a moment after `follow`."""
    async with asyncio.timeout(SOON):
        while True:
            changes.forget()
            save(file)
            try:
                async with asyncio.timeout(1):
                    await changes.wait()
            except TimeoutError:
                continue
            else:
                return


def save(file: Path) -> None:
    """As an author does, into a folder that may be new."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("")


def test_dev_has_the_options_of_up() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    ups, devs = ({each.opts[0] for each in commands[name].params} for name in ("up", "dev"))
    assert devs == ups


def test_a_domain_is_found_without_being_imported(package: Path) -> None:
    (package / "__init__.py").write_text("raise SystemExit\n")
    assert place_of("watched_shop") == place_of("watched_shop.routes") == package
    (package.parent / "linked_shop").symlink_to(package)
    assert place_of("linked_shop") == package  # what changes is told of there
    (package.parent / "one_file.py").write_text("raise SystemExit\n")
    assert place_of("one_file") == package.parent / "one_file.py"


async def test_without_a_domain_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(StartError, match="`rayfold new no_shop` writes one"):
        await dev({"domain": "no_shop"}, [])
    with pytest.raises(StartError, match="setting port"):
        await dev({"port": 0}, [])


async def test_a_settings_file_replaced_by_an_editor_is_noticed(
    changes: Changes, package: Path
) -> None:
    settings = package.parent / "rayfold.toml"
    changes.forget()
    (package.parent / "new.toml").write_text('domain = "watched_shop"\nport = 8001\n')
    (package.parent / "new.toml").rename(settings)  # as editors do
    async with asyncio.timeout(SOON):
        await changes.wait()


async def test_changes_in_imported_code_are_noticed_wherever_it_is(
    changes: Changes, package: Path
) -> None:
    for name in ("shared", "other"):
        save(package.parent / name / "__init__.py")
    money = package.parent / "shared" / "money.py"
    money.write_text("UNIT = 'cent'\n")
    (package.parent / "broken.py").write_text("UNIT =\n")
    (package / "begun.py").write_text("import json\nimport shared.money\nimport broken\n")
    flags = {"domain": "watched_shop"}
    assert not await _is_sound(flags, changes)
    await seen(changes, package.parent / "broken.py")
    await seen(changes, money)
    assert await _is_sound(flags, changes)
    changes.forget()
    save(package.parent / "other" / "__init__.py")
    save(package.parent / "shared" / "notes.txt")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await changes.wait()


async def test_a_change_that_old_events_would_not_survive_is_reported_and_served(
    package: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    gone = {"Gone": {"version": 1, "versions": {"1": schema}}}
    lock = package.parent / "events.lock.json"
    lock.write_text(json.dumps({"format": 1, "events": gone, "integration_events": {}}))
    async with Changes() as changes:
        assert await _is_sound({"domain": "watched_shop"}, changes)
        assert (
            "dev: Gone 1: no class declares it, and old events of it may be on"
            in capfd.readouterr().err
        )
        lock.write_text("<<<<<<< ours")
        assert await _is_sound({"domain": "watched_shop"}, changes)
        assert "events.lock.json is not a lock file" in capfd.readouterr().err


async def test_a_stop_during_the_end_of_a_stack_waits_for_it(package: Path) -> None:
    ready, go = package / "ready", package / "go"
    for each in (ready, go):
        os.mkfifo(each)
    stack = Served(
        [
            "-c",
            "import signal, sys\nfrom pathlib import Path\n"
            "def end(*_):\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"    sys.exit(Path({str(go)!r}).read_text())\n"
            "signal.signal(signal.SIGTERM, end)\n"
            f"Path({str(ready)!r}).write_text('')\nsignal.pause()",
        ]
    )
    await stack.start()
    await asyncio.to_thread(ready.read_text)
    stopping = asyncio.create_task(stack.stop())
    await asyncio.sleep(0)  # it begins
    stopping.cancel()
    with suppress(asyncio.CancelledError):
        await stopping
    try:
        assert stack.runs
    finally:
        await asyncio.to_thread(go.write_text, "")
    async with asyncio.timeout(SOON):
        await stack.stop()
    assert not stack.runs


STACK = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
if sys.argv[2]:
    (folder / "gateway.json").write_text('{"url": "http://127.0.0.1:1"}')
(folder / "new").write_text(str(os.getpid()))
(folder / "new").rename(folder / "pid")
time.sleep(600)
"""


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("serves", ["", "yes"])
async def test_a_mistake_ends_a_starting_stack_but_not_a_serving_one(
    package: Path, capfd: pytest.CaptureFixture[str], serves: str, left: bool
) -> None:
    """A starting stack reads the code for seconds: it would have old and new code.

    `left`: an earlier stack was killed, and its address is still in the folder.
    """
    data = package.parent / "data"
    data.mkdir()
    if left:
        (data / "gateway.json").write_text('{"url": "http://127.0.0.1:2"}')
    flags = {"domain": "watched_shop", "data": str(data)}
    serving = asyncio.create_task(_serve(flags, ["-c", STACK, str(data), serves], data))
    said = ""
    try:
        async with asyncio.timeout(2 * SOON):
            while not (data / "pid").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            (package / "__init__.py").write_text("raise ValueError\n")
            while "waiting for the next change" not in said:
                await asyncio.sleep(0.01)
                said += capfd.readouterr().err
        assert ("the start is stopped" in said) is not bool(serves)
        assert ("the previous code is still served" in said) is bool(serves)
        assert psutil.pid_exists(int((data / "pid").read_text())) is bool(serves)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert not psutil.pid_exists(int((data / "pid").read_text()))


async def test_files_that_python_and_editors_leave_are_not_a_change(
    changes: Changes, package: Path
) -> None:
    changes.forget()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "account.pyc").write_text("")
    (package / ".account.py.swp").write_text("")
    (package.parent / "notes.py").write_text("")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await changes.wait()


def remove(folder: Path) -> int:
    """Remove a folder; return the inode that it had."""
    inode = folder.stat().st_ino
    shutil.rmtree(folder)
    return inode


def make_again(folder: Path, inode: int) -> None:
    """Make a folder that is gone, with the inode that it had: most file systems give it again."""
    for number in range(200):
        folder.mkdir()
        if folder.stat().st_ino == inode:
            return
        folder.rename(folder.with_name(f"other-{number}"))  # which keeps what it got
    folder.mkdir()


async def test_a_package_that_was_deleted_and_made_again_is_watched(
    changes: Changes, package: Path
) -> None:
    changes.forget()
    inode = remove(package)
    async with asyncio.timeout(SOON):
        await changes.wait()
    changes.forget()
    make_again(package, inode)
    async with asyncio.timeout(SOON):
        await changes.wait()
    with suppress(TimeoutError):  # until all is told of that was before
        while True:
            changes.forget()
            async with asyncio.timeout(1):
                await changes.wait()
    changes.follow(package)
    await seen(changes, package / "again.py")
