"""How a process ends: soon, with its exit code, whatever an author's code does."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys
from rayfold.runtime import to_the_end
from rayfold.runtime.to_the_end import run_to_the_end

to_the_end.PATIENCE = 0.05

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def tidy():
    try:
        await asyncio.Event().wait()
    finally:
        print("tidied up")

async def work():
    tasks.append(asyncio.create_task(globals()[sys.argv[1]]()))
    await asyncio.sleep(0)
    if sys.argv[2:]:
        raise SystemError(sys.argv[2])
    return 7

tasks = []
code = run_to_the_end(work())
print("went on")
sys.exit(code)
"""


@pytest.mark.parametrize(("what", "printed"), [("tidy", "tidied up\nwent on\n"), ("stubborn", "")])
def test_a_process_ends_although_a_task_ignores_its_cancellation(what: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (7, printed), done.stderr
    assert ("did not end" in done.stderr) == (what == "stubborn")


@pytest.mark.parametrize("what", ["tidy", "stubborn"])
def test_a_process_whose_work_fails_ends_and_shows_the_error(what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, "no port"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "SystemError: no port" in done.stderr
    assert ("did not end" in done.stderr) == (what == "stubborn")
