"""What a controller ends, and what it leaves to the next one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from deploy.errors import StartError
from deploy.stack import governing, publishing, ray_runtime
from deploy.stack.governing import Government
from projections import outbound_side
from rayfold.runtime.controller_rpc import ControllerUnavailable


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
async def test_publications_end_in_order_when_the_stack_goes_down(
    monkeypatch: pytest.MonkeyPatch, going_down: bool, done: list[str]
) -> None:
    """If it is killed, a publication sends everything since its last checkpoint again."""
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


async def test_down_reports_that_ray_hangs_instead_of_asking_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hangs(address: str) -> None:
        raise StartError(f"Ray's head at {address} does not answer")

    monkeypatch.setattr(ray_runtime, "addresses", lambda: {"gcs_server": "head:6379"})
    monkeypatch.setattr(governing, "check_ray", hangs)
    government: Any = Government.__new__(Government)
    government._going_down = False
    with pytest.raises(ControllerUnavailable, match="head:6379 does not answer"):
        await government.down()
    assert not government._going_down


async def test_a_down_that_cannot_begin_does_not_end_anything_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operator was told that it failed: a controller stopped later leaves its parts."""

    def unknown(*_: str) -> list[str]:
        raise RaySystemError("the GCS does not answer")

    monkeypatch.setattr(governing, "named_parts", unknown)
    stopped: list[str] = []
    government: Any = Government.__new__(Government)
    government._settings = SimpleNamespace(stack="shop")
    government._owned = SimpleNamespace(identity=SimpleNamespace(stack="id"))
    government._going_down = False
    government._stop = lambda: stopped.append("stop")
    with pytest.raises(RaySystemError):
        await government.down()
    assert not stopped
    await government._end(outbound := Outbound())
    assert outbound.done == ["stop"]
