"""What a probe says of a server, and when."""

from __future__ import annotations

import asyncio
import logging

import pytest

from deploy.stack import probe as module
from deploy.stack.probe import Probe


class _Server:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.wrong: str | Exception | None = None
        self.silent = False

    async def ask(self) -> str | None:
        if self.silent:
            await asyncio.Event().wait()
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong


async def test_a_server_that_answers_is_ready_and_serves_nobody_by_itself() -> None:
    probe = Probe("postgres", _Server().ask, None)
    await probe.look()
    assert probe.status() == {
        "part": "postgres",
        "kind": "server",
        "serves": False,
        "ready": True,
    }


@pytest.mark.parametrize("wrong", ["its disk is full", ConnectionError("its disk is full\nhow?")])
async def test_a_server_says_what_is_wrong_in_one_line(wrong: str | Exception) -> None:
    server = _Server()
    server.wrong = wrong
    probe = Probe("eventstore", server.ask, None)
    await probe.look()
    assert probe.status()["ready"] is False
    assert probe.status()["error"].endswith("its disk is full")
    plainly = wrong if isinstance(wrong, str) else "it does not answer"
    assert probe.status()["plainly"] == plainly


async def test_silence_is_logged_once_and_so_is_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.01)
    server = _Server()
    server.silent = True
    probe = Probe("eventstore", server.ask, None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await probe.look()
        assert "no answer" in probe.status()["error"]
        server.silent = False
        for _ in range(3):
            await probe.look()
    assert probe.status()["ready"] is True
    assert [record.message for record in caplog.records] == [
        "a server is not ready",
        "a server is ready again",
    ]
