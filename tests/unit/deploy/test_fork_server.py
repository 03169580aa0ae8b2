"""A process forked from the server is as if Python had been started for it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.raylet import fork_server_process, worker_start
from deploy.raylet.fork_server import ForkServer

SCRIPT = """
import json, os, resource, signal, sys
found = {
    "arguments": sys.argv[1:],
    "name": __name__,
    "path": sys.path[0],
    "folder": os.readlink("/proc/self/cwd"),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "given": os.environ.get("GIVEN"),
    "others": os.environ.get("OTHERS"),
    "input": sys.stdin.read(),
    "parent": os.getppid(),
    "leads_its_group": os.getpgid(0) == os.getpid(),
    "imported": "plistlib" in sys.modules,
    "children": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
}
print(json.dumps(found))
print("said", file=sys.stderr)
sys.exit(3)
"""

WITHOUT_ENVIRONMENT = worker_start.NO_ENVIRONMENT
DEADLINE = 20.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    monkeypatch.setenv("OTHERS", "of the server")
    server = ForkServer(["plistlib"])
    monkeypatch.delenv("OTHERS")
    yield server
    server.stop()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "scripts" / "worker.py"
    file.parent.mkdir()
    file.write_text(SCRIPT)
    return file


def run(
    path: str, script: Path, *arguments: str, after: str = ":", **options: Any
) -> dict[str, Any]:
    """What is found by a script that Ray runs with this before it, `after` a shell's command."""
    command = ["sh", "-c", f'{after}; exec "$@"', "sh"]
    command += [sys.executable, worker_start.__file__, path, "-u", str(script), *arguments]
    ran = subprocess.run(
        command, input="typed", capture_output=True, text=True, timeout=DEADLINE, **options
    )
    assert ran.stderr == "said\n"
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_forked_process_has_what_its_starter_would_have_given_it(
    server: ForkServer, script: Path, tmp_path: Path
) -> None:
    given = os.fsdecode(b"no \xff text")
    options = {"cwd": tmp_path, "env": {**os.environ, "GIVEN": given}}
    found = run(
        server.path, script, WITHOUT_ENVIRONMENT, "--a=b c", after="ulimit -Sn 123", **options
    )
    assert found == {
        "arguments": [WITHOUT_ENVIRONMENT, "--a=b c"],
        "name": "__main__",
        "path": str(script.parent),
        "folder": str(tmp_path),
        "files": 123,  # Ray raises it for its own after the server has begun
        "given": given,
        "others": None,
        "input": "typed",
        "parent": server.pid,
        "leads_its_group": True,  # a raylet kills the group of a worker that has ended
        "imported": True,
        "children": True,
    }


def test_its_folder_may_be_gone(server: ForkServer, script: Path, tmp_path: Path) -> None:
    """As after a deployment that replaced it."""
    folder = tmp_path / "gone"
    for path in (server.path, "/nowhere"):
        folder.mkdir()
        found = run(path, script, WITHOUT_ENVIRONMENT, after='rmdir "$PWD"', cwd=folder)
        assert found["folder"] == f"{folder} (deleted)"
        assert (found["parent"] == server.pid) == (path == server.path)


def test_a_safe_path_stays_as_it_is(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, Python does not put the script's folder in front of the path."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    server = ForkServer(["plistlib"])
    try:
        found = run(server.path, script, WITHOUT_ENVIRONMENT)
        assert (found["parent"], found["path"]) == (server.pid, str(tmp_path))
    finally:
        server.stop()


def test_a_process_with_a_runtime_environment_is_started_and_not_forked(
    server: ForkServer, script: Path
) -> None:
    found = run(server.path, script, "--runtime-env-hash=17")
    assert (found["parent"], found["imported"]) == (os.getpid(), False)


def test_without_a_server_a_process_is_started(server: ForkServer, script: Path) -> None:
    assert run(server.path, script, WITHOUT_ENVIRONMENT)["parent"] == server.pid
    os.kill(server.pid, signal.SIGKILL)
    found = run(server.path, script, WITHOUT_ENVIRONMENT)
    assert (found["parent"], found["imported"]) == (os.getpid(), False)
    assert found["arguments"] == [WITHOUT_ENVIRONMENT]


def test_a_server_with_threads_does_not_fork(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    begins = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True)"
    (tmp_path / "with_a_thread.py").write_text(f"{begins}.start()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = ForkServer(["with_a_thread"])
    try:
        assert run(server.path, script, WITHOUT_ENVIRONMENT)["parent"] == os.getpid()
    finally:
        server.stop()
    assert "threads" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "threads"),
        ("raise ValueError('of the user')", "of the user"),
        ("raise SystemExit('of a script')", "of a script"),
    ],
)
def test_a_module_that_cannot_be_imported_is_left_out(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    does: str,
    told: str,
) -> None:
    (tmp_path / "of_the_user.py").write_text(f"import threading, time\n{does}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = ForkServer(["plistlib", "of_the_user", "colorsys"])
    try:
        found = run(server.path, script, WITHOUT_ENVIRONMENT)
        assert (found["parent"], found["imported"]) == (server.pid, True)
    finally:
        server.stop()
    assert told in capfd.readouterr().err


def test_a_request_that_comes_too_late_does_nothing(server: ForkServer, script: Path) -> None:
    """The requester has started Python itself meanwhile, so the process would be there twice."""
    told = {
        "arguments": [str(script)],
        "environment": dict(os.environ),
        "oom_score_adj": "0",
        "limits": {},
    }
    ours, its = os.pipe()
    nothing, folder = os.open(os.devnull, os.O_RDONLY), os.open(".", os.O_PATH)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(server.path)
        socket.send_fds(connection, [b" "], [nothing, its, its, folder])
        connection.sendall(json.dumps(told).encode() + worker_start.END)
        assert connection.recv(16)
    for each in (nothing, its, folder):
        os.close(each)
    with os.fdopen(ours, "rb") as output:
        assert select.select([output], [], [], DEADLINE)[0], (
            "the process neither ended nor printed anything"
        )
        assert output.read() == b"", "the process ran although nobody waited for it"


@pytest.mark.parametrize(
    "said",
    [b"", b" ", b"{}", b'{"arguments": []}' + worker_start.END, b"\xff\0", b"[" * 60_000 + b"\0"],
)
def test_an_invalid_request_is_not_answered_and_does_no_harm(
    server: ForkServer, script: Path, said: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(server.path)
        socket.send_fds(connection, [said[:1] or b" "], [0, 1, 2, 0])
        connection.sendall(said[1:])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(16) == b""
    assert run(server.path, script, WITHOUT_ENVIRONMENT)["parent"] == server.pid


def test_other_users_cannot_connect_to_the_server(server: ForkServer) -> None:
    assert Path(server.path).parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("ends", ["stopped", "hung", "killed"])
def test_forked_processes_end_with_their_parent_and_not_with_the_server(
    server: ForkServer, tmp_path: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the server must not end actors."""
    monkeypatch.setattr("deploy.raylet.fork_server.END_TIMEOUT", 0.2 if ends == "hung" else 5.0)
    waits = tmp_path / "waits.py"
    waits.write_text("import os, sys\nprint(os.getpid(), flush=True)\nsys.stdin.readline()\n")
    command = [sys.executable, worker_start.__file__, server.path, str(waits), WITHOUT_ENVIRONMENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asked:
        assert asked.wait(DEADLINE) == 0
        assert asked.stdout is not None
        forked = psutil.Process(int(asked.stdout.readline()))
        if ends == "hung":
            os.kill(server.pid, signal.SIGSTOP)
        if ends != "killed":
            server.stop()
            forked.wait(DEADLINE)
            return
        os.kill(server.pid, signal.SIGKILL)
        psutil.Process(server.pid).wait(DEADLINE)
        assert forked.is_running()
        asked.communicate(b"\n", DEADLINE)
        forked.wait(DEADLINE)


def test_the_server_ends_with_its_parent() -> None:
    """The parent is killed, so that it cannot tell the server."""
    begins = "from deploy.raylet.fork_server import ForkServer\nimport sys\n"
    says = "s = ForkServer(['json'])\nprint(s.pid, s.path, flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", begins + says],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid, path = parent.stdout.readline().split()
        process = psutil.Process(int(pid))
        parent.kill()
    process.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while (folder := Path(path).parent).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    left = folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
    assert not left


def test_both_sides_use_the_same_end_of_a_request() -> None:
    assert fork_server_process.END == worker_start.END
