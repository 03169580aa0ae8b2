"""What a controller ends, and what it leaves to the next."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from deploy.stack import publishing
from deploy.stack.governing import Government
from projections import outbound_side


class Outbound:
    """What goes out; notes how it is ended."""

    def __init__(self, *_: Any) -> None:
        self.done: list[str] = []

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        self.done.append("stop")

    async def end(self) -> None:
        self.done.append("end")


@pytest.mark.parametrize(("going_down", "done"), [(False, ["stop"]), (True, ["end", "stop"])])
async def test_what_goes_out_ends_in_order_where_all_goes_down(
    monkeypatch: pytest.MonkeyPatch, going_down: bool, done: list[str]
) -> None:
    """Killed, a publication sends again what it has sent since its last checkpoint."""
    monkeypatch.setattr(outbound_side, "OutboundSide", Outbound)
    monkeypatch.setattr(publishing, "configured", lambda _: {})
    monkeypatch.setattr(Government, "_read_settings", lambda _: None)
    government: Any = Government.__new__(Government)
    government._registry = government._settings = None
    government._going_down = False
    async with AsyncExitStack() as parts:
        side = await government._start_outbound(parts)
        government._going_down = going_down
    assert side.done == done
