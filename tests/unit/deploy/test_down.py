"""What `rayfold down` does if nothing answers."""

from __future__ import annotations

import logging
import threading

import pytest

from deploy.stack import down, ray_runtime
from deploy.stack.settings import Settings


async def test_down_says_that_it_waits_for_ray_and_gives_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The head accepts connections, and then hangs: Ray itself tries for as long."""
    let_go, given_up = threading.Event(), []

    def give_up(address: str) -> None:
        given_up.append(address)
        let_go.set()  # the process would have ended

    monkeypatch.setattr(down, "WORD", 0.0)
    monkeypatch.setattr(down, "ENDING", 0.05)
    monkeypatch.setattr(down, "check_ray", lambda _: None)
    monkeypatch.setattr(down, "_give_up", give_up)
    monkeypatch.setattr(down, "end_parts", lambda *_: [])
    monkeypatch.setattr(ray_runtime, "start", lambda *_: let_go.wait())
    monkeypatch.setattr(ray_runtime, "stop", lambda: None)
    with caplog.at_level(logging.WARNING):
        await down._end(Settings(ray_address="head:6379"), "id")
    assert given_up == ["head:6379"]
    assert [each.message for each in caplog.records] == ["still waiting"]
