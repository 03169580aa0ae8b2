"""What is said of a generation that was built."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from projections.operations.rebuild import Rebuild
from projections.stores.port import Reached
from projections.stores.rebuild import build
from projections.supervision.actor_handle import ActorHandle


class Full:
    """An actor that has filled a generation, as Ray gives a handle of it."""

    def __init__(self, parked: int) -> None:
        self._status = {"pid": 1, "ready": True, "position": 7, "parked": parked}
        self.status = self

    async def remote(self) -> dict[str, Any]:
        return self._status


class Builder(ActorHandle):
    """Ends nothing of Ray's."""

    async def end(self) -> None: ...


class Generation:
    """Takes the live one's place."""

    live = False

    async def finish(self) -> int:
        return 0

    async def switch(self, reached: Reached) -> None:
        self.live = True

    async def discard(self) -> None: ...


@pytest.mark.parametrize("parked", [0, 3])
async def test_rows_that_are_parked_in_it_are_told(
    parked: int, caplog: pytest.LogCaptureFixture
) -> None:
    builder = Builder("build:rooms", "postgres", ["rooms"], lambda: Full(parked))
    log: Any = None
    generation = Generation()
    with caplog.at_level(logging.WARNING):
        await build(generation, builder, Rebuild("rooms", ["postgres"]), asyncio.Lock(), log)
    assert generation.live
    told = [(each.view, each.parked) for each in caplog.records]  # type: ignore[attr-defined]
    assert told == ([("rooms", 3)] if parked else [])
