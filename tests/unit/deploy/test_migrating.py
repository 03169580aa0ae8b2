"""Which servers `rayfold migrate` uses: running ones, or some that it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import folder, migrating
from deploy.stack.settings import Settings
from rayfold import Registry

STARTED = "kdb://started", "postgresql://started"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a data folder, where servers that are started have these addresses."""

    def gives(address: str) -> Any:
        async def start(*_: Any) -> tuple[str, None]:
            return address, None

        return start

    for name, address in zip(("start_eventstore", "start_postgres"), STARTED, strict=True):
        monkeypatch.setattr(migrating, name, gives(address))
    return tmp_path / "data"


@pytest.fixture
def crashed(data: Path) -> Path:
    """Return the folder of a stack that ended without a word."""
    data.mkdir()
    folder.announce(data, "http://127.0.0.1:1")
    return data


@pytest.fixture
def running(data: Path) -> Iterator[Path]:
    """Return the folder of a stack that runs; nobody who looks changes who may enter it."""
    with folder.locked(data):
        data.chmod(0o700)
        (data / "postgres").mkdir()
        (data / "postgres" / "postmaster.pid").write_text("1\n2\n3\n4\n/sockets\n")
        (data / "eventstore.uri").write_text("kdb://running")
        yield data
        assert data.stat().st_mode & 0o777 == 0o700


async def test_after_a_crash_servers_are_started(crashed: Path) -> None:
    async with migrating._servers(Settings(data=crashed), Registry(())) as found:
        assert found == STARTED


async def test_the_servers_of_a_running_stack_are_used(running: Path) -> None:
    async with migrating._servers(Settings(data=running), Registry(())) as (store, postgres):
        assert store == "kdb://running"
        assert postgres.endswith("host=/sockets")
