"""A process of Ray that hangs is reported, and in the end counts as dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.stack import ray_answers
from deploy.stack.ray_answers import GREETING, HANGS, SILENT, RayAnswers


class Process:
    """A server that greets, or hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self.address = ""
        self.server: asyncio.Server

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted = await reader.readexactly(len(GREETING))
        assert greeted == GREETING
        if not self.hangs:
            writer.write(GREETING[-9:])
        await reader.read()
        writer.close()


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """Return one that runs."""
    monkeypatch.setattr(ray_answers, "TIMEOUT", 0.05)
    process = Process()
    await process.start()
    try:
        yield process
    finally:
        process.server.close()


async def test_a_process_that_hangs_is_first_reported_as_silent(process: Process) -> None:
    answers = RayAnswers(lambda: {"raylet": process.address})
    process.hangs = True
    for asked in range(1, HANGS + 1):
        await answers.ask()
        assert answers.silent() == ("raylet" if asked >= SILENT else None)
        assert answers.hanging() == ("raylet" if asked >= HANGS else None)
    answers.forget()
    assert answers.silent() is answers.hanging() is None


async def test_an_answer_starts_the_count_again(process: Process) -> None:
    answers = RayAnswers(lambda: {"gcs_server": process.address})
    for _ in range(2):
        process.hangs = True
        for _ in range(HANGS - 1):
            await answers.ask()
        assert answers.silent() == "gcs_server"
        process.hangs = False
        await answers.ask()
        assert answers.silent() is None


async def test_a_process_that_is_gone_is_silent(process: Process) -> None:
    asked = {"raylet": process.address}
    answers = RayAnswers(lambda: asked)
    process.server.close()
    for _ in range(SILENT):
        await answers.ask()
    assert answers.silent() == "raylet"
    asked.clear()  # Ray is started again
    await answers.ask()
    assert answers.silent() is None
