"""A server of ours reports how full its disk is."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.stack.display import Display
from deploy.stack.servers import start_eventstore
from deploy.stack.settings import load


class Usage(NamedTuple):
    """As `shutil.disk_usage` gives it."""

    free: int


async def test_its_folder_may_be_a_disk_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "eventstore"
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: Usage(7 if folder == full else 1_000_000_000)
    )
    async with AsyncExitStack() as parts:
        _, probe = await start_eventstore(load(data=tmp_path), [], tmp_path, parts, Display())
        await probe.look()
        status = probe.status()
    assert (status["ready"], status["disk_free_bytes"]) == (False, 7)
    assert status["error"] == "its disk is full: 7 bytes are free"
