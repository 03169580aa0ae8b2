"""Ctrl-C while the command line is still being imported: it ends, and prints nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "rayfold")

INTERRUPTED = """
import os, runpy, signal, sys

script, moment, *arguments = sys.argv[1:]

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""
"""The console script, with a SIGINT where a module begins to be imported."""

RUNNING = """
import os, signal
from deploy.cli import command_line, main

def run():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        print("undone")

command_line.main = run
main()
"""
"""A command that runs, and has something to undo."""


def run(moment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, SCRIPT, moment, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "moment",
    [
        "deploy.cli.command_line",
        "typer",
        "deploy.cli.running",
        "rayfold.keys",
        "deploy.cli.upgrading",  # the last of them
        "deploy.cli.gateway_client",  # by the command itself
    ],
)
def test_ctrl_c_while_modules_are_imported_ends_it_in_silence(moment: str, tmp_path: Path) -> None:
    ended = run(moment, "status", "--data", str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Children start with SIGINT as at a terminal, though these tests may run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ignored_by_the_parent_process_stays_ignored() -> None:
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `… &`
    try:
        ended = run("typer", "--version")
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert ended.returncode == 0
    assert ended.stdout.startswith("rayfold ")


def test_a_running_command_is_interrupted_as_usual() -> None:
    """A running command undoes what it began, so there the usual exception is raised."""
    ended = subprocess.run(
        [sys.executable, "-c", RUNNING], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "undone\n", "")
