"""A Postgres of our own: if it was killed while it was created, it is created again."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, nullcontext, suppress
from pathlib import Path
from stat import S_IMODE

import asyncpg
import psutil
import pytest

from deploy.errors import StartError
from deploy.stack import servers
from deploy.stack.display import Display
from deploy.stack.postgres_process import CONTROL, PostgresProcess
from deploy.stack.servers import start_postgres
from deploy.stack.settings import load
from tests.postgres_server import create_database

DEADLINE = 60.0
"""Seconds for whatever is waited for."""

SCRIPT = """
import asyncio, sys
from pathlib import Path
from deploy.stack.postgres_process import PostgresProcess

asyncio.run(PostgresProcess(Path(sys.argv[1])).start())
"""


def is_killed_half_made(folder: Path) -> bool:
    """Kill one that is made in there; whether it claims to be one, and would not start."""
    making = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder / "postgres")], start_new_session=True
    )
    until = time.monotonic() + DEADLINE
    while not (versions := list(folder.glob("*/PG_VERSION"))):
        assert time.monotonic() < until
        time.sleep(0.001)
    for each in psutil.Process(making.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    making.kill()
    making.wait()
    [version] = versions
    return version.exists() and not (version.parent / CONTROL).exists()


@pytest.mark.parametrize(
    ("encoding", "is_refused"), [("LATIN1", True), ("SQL_ASCII", False), ("UTF8", False)]
)
async def test_a_database_that_cannot_store_every_character_is_refused(
    postgres: str, tmp_path: Path, encoding: str, is_refused: bool
) -> None:
    options = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    dsn = create_database(postgres, f"in_{encoding.lower()}", options)
    refused = (
        pytest.raises(StartError, match="has the encoding LATIN1") if is_refused else nullcontext()
    )
    async with AsyncExitStack() as parts:
        with refused:
            await start_postgres(load(postgres=dsn), tmp_path, parts, Display())


async def test_a_postgres_that_is_read_only_is_not_ready(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "keep_going", lambda *_: None)  # it is we who ask
    dsn = create_database(postgres, "unwritten")
    admin = await asyncpg.connect(dsn)
    async with AsyncExitStack() as parts:
        parts.push_async_callback(admin.close)

        async def told() -> str | None:
            """Return what a probe says whose connection is made now."""
            async with AsyncExitStack() as started:
                given = load(postgres=dsn)
                _, probe = await start_postgres(given, tmp_path, started, Display())
                await probe.look()
                status = probe.status()
            assert status["ready"] is ("error" not in status)
            assert status.get("plainly") == status.get("error")
            return status.get("error")

        assert await told() is None
        await admin.execute("ALTER DATABASE unwritten SET default_transaction_read_only = on")
        said = "it is read-only (default_transaction_read_only): nothing can be written"
        assert await told() == said
        _, probe = await start_postgres(load(postgres=dsn), tmp_path, parts, Display())
        await probe.look()
        assert probe.status()["error"] == said
        await admin.execute("ALTER DATABASE unwritten RESET default_transaction_read_only")
        await probe.look()
        assert probe.status()["ready"]
        # A disk cannot be filled here: what writes to it says so instead.
        await admin.execute("ALTER DATABASE unwritten SET search_path = public, pg_catalog")
        await admin.execute(
            "CREATE FUNCTION public.generate_series(int, int) RETURNS SETOF int LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION USING ERRCODE = ''disk_full''; END'"
        )
        assert await told() == "its disk is full"
        await admin.execute("DROP FUNCTION public.generate_series(int, int)")
        assert await told() is None


@pytest.fixture
def half_made(tmp_path: Path) -> Path:
    """The folder of one that was killed while it was made."""
    tmp_path.chmod(0o755)  # the wheel's Postgres has a user of its own
    for attempt in range(20):  # it takes 0.1 s to get further
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if is_killed_half_made(folder):
            return folder / "postgres"
    pytest.fail("it was not killed before it was ready")


def test_the_reason_why_a_database_cannot_be_made_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    most = 4 * 1024 * 1024  # bytes of a file; of the write-ahead log each has four times that
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    failed = subprocess.run(
        [sys.executable, "-c", f"{limited}\n{SCRIPT}", str(tmp_path / "postgres")],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    *_, told = failed.stderr.strip().splitlines()
    assert "cannot be set up" in told
    assert "File too large" in told


async def test_a_database_whose_creation_was_killed_is_made_again(half_made: Path) -> None:
    for _ in range(2):  # what is there is kept
        server = PostgresProcess(half_made)
        dsn = await server.start()
        try:
            connection = await asyncpg.connect(dsn)
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            await connection.execute("INSERT INTO kept VALUES (1)")
            counted = await connection.fetchval("SELECT count(*) FROM kept")
            await connection.close()
        finally:
            await server.stop()
    assert counted == 2


@pytest.fixture
def still_at_work(tmp_path: Path) -> Iterator[Path]:
    """The folder of one that is half made, in which somebody does not yet stop."""
    tmp_path.chmod(0o755)
    left, ended = tmp_path / "postgres.new-left", threading.Event()

    def work() -> None:
        while not ended.is_set():
            with suppress(FileExistsError, FileNotFoundError):  # it goes meanwhile
                left.mkdir(exist_ok=True)
                (left / "postmaster.pid").touch()

    with ThreadPoolExecutor() as threads:
        working = threads.submit(work)
        yield tmp_path / "postgres"
        ended.set()
    working.result()


async def test_a_process_still_working_in_the_left_folder_does_not_prevent_a_start(
    still_at_work: Path,
) -> None:
    server = PostgresProcess(still_at_work)
    await server.start()
    await server.stop()


async def test_parent_folders_are_not_opened_to_other_users(closed: Path) -> None:
    """By default others could read them; Postgres' user may only pass through."""
    for _ in range(2):
        server = PostgresProcess(closed / "data" / "postgres")
        await server.start()
        await server.stop()
    for folder in (closed, closed / "data"):
        assert S_IMODE(os.stat(folder).st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that its owner alone may look into."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "closed"
    for each in (folder, folder / "data"):
        each.mkdir(mode=0o700)
    return folder


async def test_a_copied_folder_may_belong_to_the_user_who_copied_it(closed: Path) -> None:
    """As after `cp -r`, or on another machine, where its user has another number.

    Without root, the folder always belongs to the present user.
    """
    server = PostgresProcess(closed / "postgres")
    await server.start()
    await server.stop()
    shutil.copytree(closed / "postgres", closed / "copy", ignore=lambda *_: ["postmaster.pid"])
    copied = PostgresProcess(closed / "copy")
    await copied.start()
    await copied.stop()


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose name has what means something in a URL."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "a?b=1&host=c#%2F"
    folder.mkdir()
    return folder


async def test_its_folder_may_contain_characters_with_a_meaning_in_urls(odd: Path) -> None:
    server = PostgresProcess(odd / "postgres")
    connection = await asyncpg.connect(await server.start())
    await connection.close()
    await server.stop()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder whose path is too long for a socket's."""
    tmp_path.chmod(0o755)
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    return folder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder for what is temporary."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


async def test_its_path_may_be_too_long_for_a_socket(long: Path, temporary: str) -> None:
    """The socket's folder has an unpredictable name; it is removed with the server."""
    server = PostgresProcess(long / "postgres")
    try:
        dsn = await server.start()
        [sockets] = os.listdir(temporary)
        assert S_IMODE(os.stat(f"{temporary}/{sockets}").st_mode) == 0o700
        psutil.Process(server.status()["pid"]).kill()
        await started_again(server)
        await (await asyncpg.connect(dsn)).close()
    finally:
        await server.stop()
    assert os.listdir(temporary) == []


async def started_again(server: PostgresProcess) -> None:
    async with asyncio.timeout(DEADLINE):
        while not server.status()["restarts"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_database_that_an_earlier_release_left_unfinished_is_refused_with_what_to_do(
    half_made: Path,
) -> None:
    [left] = half_made.parent.glob("postgres.new-*")
    left.rename(half_made)
    with pytest.raises(StartError, match=f"did not finish: it has no {CONTROL}: remove it"):
        await PostgresProcess(half_made).start()


async def test_it_does_not_depend_on_the_locale_of_the_user_who_starts_it(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh may pass on a locale that this machine lacks; another machine may lack this one's."""
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    server = PostgresProcess(closed / "postgres")
    connection = await asyncpg.connect(await server.start())
    try:
        [locale] = await connection.fetch(
            "SELECT datlocprovider, datcollate, datlocale, lower('\u00c4')"
            " FROM pg_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
        await server.stop()
    assert tuple(locale) == (b"b", "C", "C.UTF-8", "\u00e4")
