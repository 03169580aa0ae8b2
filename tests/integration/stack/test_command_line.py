"""If `rayfold` cannot work: one line, exit code 2, and no process left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.ports import free_port
from tests.stack import Stack, rayfold


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [*rayfold(), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )


def assert_one_line(result: subprocess.CompletedProcess[str], says: str) -> None:
    """Exit code 2, and the last line says what to do; no traceback."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("rayfold: ")]
    assert len(lines) == 1, result.stderr
    assert says in lines[0]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_folder_in_use(stack: Stack, tmp_path: Path) -> None:
    result = run("up", "--data", str(stack.data), "--port", str(free_port()), cwd=tmp_path)
    assert_one_line(result, "in use by another rayfold up")


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("up", "--port", str(port), cwd=tmp_path)
    assert_one_line(result, f"port {port} is taken")


def test_a_postgres_that_does_not_answer(tmp_path: Path) -> None:
    dsn = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    result = run("up", "--postgres", dsn, "--port", str(free_port()), cwd=tmp_path)
    assert_one_line(result, "check --postgres")
    assert_nothing_runs(tmp_path)


def test_an_event_store_that_does_not_answer(tmp_path: Path) -> None:
    uri = f"kdb://127.0.0.1:{free_port()}?Tls=false"
    result = run("up", "--eventstore", uri, "--port", str(free_port()), cwd=tmp_path)
    assert_one_line(result, "check --eventstore")
    assert_nothing_runs(tmp_path)


@pytest.mark.parametrize(
    ("toml", "says"),
    [("port = 'many'", "port"), ("prot = 8000", "prot"), ("port =", "cannot be read")],
)
def test_settings_that_are_invalid(tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "rayfold.toml").write_text(toml)
    assert_one_line(run("up", cwd=tmp_path), says)


def test_a_domain_that_is_not_there(tmp_path: Path) -> None:
    result = run("up", "--domain", "no_such_domain", cwd=tmp_path)
    assert_one_line(result, "no_such_domain")


@pytest.mark.parametrize("command", [["status"], ["verify"], ["scale", "write", "2"], ["events"]])
def test_no_gateway(tmp_path: Path, command: list[str]) -> None:
    assert_one_line(run(*command, cwd=tmp_path), "no gateway is running")


def test_operators_commands_reach_the_gateway(stack: Stack, tmp_path: Path) -> None:
    data = ["--data", str(stack.data)]
    status = run("status", "--json", *data, cwd=tmp_path)
    assert '"part": "write#0"' in status.stdout
    for part in json.loads(status.stdout)["parts"]:
        assert part["part"] != "write#0" or part["per_second"] >= 0
    heads, first = run("status", *data, cwd=tmp_path).stdout.splitlines()[:2]
    assert first[heads.index("per second") :].split()[0].isdecimal()
    assert run("verify", *data, cwd=tmp_path).stdout == "0 differences\n"
    with httpx.Client(base_url=stack.url) as http:
        assert http.post("/orders", json={"customer_id": "ada"}).status_code == 202
    events = run("events", *data, cwd=tmp_path)
    assert events.returncode == 0
    elsewhere = run("events", "--url", stack.url, cwd=tmp_path)
    assert elsewhere.stdout
    assert [json.loads(each) for each in elsewhere.stdout.splitlines()] == [
        json.loads(each) for each in events.stdout.splitlines()
    ]
    nobody = run("events", "--stream", "order-nobody", cwd=tmp_path, RAYFOLD_URL=stack.url)
    assert nobody.stderr == "rayfold: the log has no event of the stream 'order-nobody'\n"
    other = run("events", *data, cwd=tmp_path, RAYFOLD_DOMAIN="tests.releases.one")
    assert (other.returncode, other.stdout) == (0, "")
    assert "no event of an aggregate of the domain 'tests.releases.one'" in other.stderr
    nothing = run("events", *data, "--stream", "order-nobody", cwd=tmp_path)
    assert nothing.stderr == "rayfold: the log has no event of the stream 'order-nobody'\n"
    wrong = run("scale", "nothing", "2", *data, cwd=tmp_path)
    assert_one_line(wrong, "nothing to scale is named 'nothing'")


def test_the_command_runs_with_closed_standard_streams(tmp_path: Path) -> None:
    """As old daemons are started: its output is lost, but must not go to a file that it opens."""
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *rayfold(), "status"]
    assert subprocess.run(closed, cwd=tmp_path, timeout=120, check=False).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_during_the_start_leaves_no_process(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [*rayfold(), "up", "--port", str(free_port())],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"starting ray" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said = process.stderr.read().decode()
    assert process.wait(90) == 130, said
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, gone
    assert_nothing_runs(tmp_path)


def assert_nothing_runs(data: Path) -> None:
    """No process has the folder in its command line; those on their way out may end first."""
    until = time.monotonic() + 60
    while left := [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(data) in part for part in process.info["cmdline"] or [])
    ]:
        assert time.monotonic() < until, left
        psutil.wait_procs([], timeout=0.1)
