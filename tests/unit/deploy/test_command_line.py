"""What the command prints if it is used wrongly, or if something is not available."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.stack import rayfold


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_an_error(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*rayfold(), "--version"],
            env={"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.stderr == "rayfold: cannot write: No space left on device\n"
    assert result.returncode == 2


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *rayfold(), "check"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (
        result.stderr == "rayfold: the working folder does not exist: No such file or directory\n"
    )
    assert result.returncode == 2


def test_an_invalid_connection_string_is_not_reported_as_a_silent_store(tmp_path: Path) -> None:
    result = subprocess.run(
        [*rayfold(), "events", "--eventstore", "kdb://127.0.0.1:1", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    told = "rayfold: the event store at kdb://127.0.0.1:1 cannot be used: Username and password"
    assert result.stderr.startswith(told)
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("scale", "Missing argument 'target': see rayfold scale --help"),
        ("parked list 1", "Got unexpected extra argument(s) (1): see rayfold parked list --help"),
        ("parked look", "No such command 'look': see rayfold parked --help"),
        ("status --quick", "No such option: --quick: see rayfold status --help"),
        (
            "counterfactual --since x",
            "Invalid value for '--since': 'x' is not a valid int range: see rayfold"
            " counterfactual --help",
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments: str, told: str) -> None:
    result = subprocess.run(
        [*rayfold(), *arguments.split()], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"rayfold: {told}\n")


def test_a_command_group_without_a_command_shows_its_commands() -> None:
    result = subprocess.run(
        [*rayfold(), "parked"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (2, "")
    assert "discard" in result.stdout


def _fails(error: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of which the middle raises, whatever it was at."""
    code = f"""
from deploy.cli import checking, main
def read(*_): raise {error}
import deploy.authoring.catalogue.lock as lock
lock.read = read
import sys; sys.argv = ["rayfold", "check"]
main()
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ConnectionResetError(104, 'Connection reset by peer')", "[Errno 104] Connection reset"),
        ("__import__('ray').exceptions.RayError('the GCS\\nis gone')", "RayError: the GCS ("),
        ("__import__('asyncpg').TooManyConnectionsError('too many')", "TooManyConnectionsError: "),
        ("__import__('rayfold').RayfoldError('the log is gone')", "RayfoldError: the log is gone"),
    ],
)
def test_a_failure_outside_of_rayfold_is_one_line(error: str, told: str) -> None:
    result = _fails(error)
    assert result.returncode == 2
    assert result.stderr.startswith("rayfold: ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_with_rayfold_traceback_set_the_traceback_is_shown() -> None:
    asked = _fails("OSError(1, 'no')", RAYFOLD_TRACEBACK="1")
    assert "Traceback" in asked.stderr
    assert asked.returncode == 1


@pytest.mark.parametrize(
    "error",
    ["KeyError('x')", "__import__('ray').exceptions.RayTaskError('f', 'its trace', KeyError('x'))"],
)
def test_an_internal_error_shows_its_traceback(error: str) -> None:
    assert "Traceback" in _fails(error).stderr


def test_a_store_that_is_down_is_reported_once_in_the_clients_words() -> None:
    """The client's error has everything twice, and internal names."""
    result = subprocess.run(
        [*rayfold(), "events", "--eventstore", f"kdb://127.0.0.1:{free_port()}?Tls=false"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 2
    assert "failed to connect to all addresses" in result.stderr
    assert "Rendezvous" not in result.stderr
    assert "debug_error_string" not in result.stderr
