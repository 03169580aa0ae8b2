"""How a new generation is judged before it replaces the live one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from projections.errors import ReadStoreUnavailable, WouldPark
from projections.newly_parked import NewlyParked
from projections.operations.rebuild import Rebuild
from projections.poison import Parked
from projections.stores.port import Reached
from projections.stores.rebuild import build
from projections.supervision.actor_handle import ActorHandle


class Full:
    """An actor that has filled a generation, as Ray gives a handle of it."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.status = self

    async def remote(self) -> dict[str, Any]:
        told = {"pid": 1, "ready": True, "position": 7}
        counts = self._generation.counts_parked
        return told | {"parked": len(self._generation.parked)} if counts else told


class Builder(ActorHandle):
    """Ends nothing of Ray's."""

    async def end(self) -> None: ...


class Generation:
    """Takes the live one's place."""

    live = False
    stays = False
    """Whether its store has gone away by the time that it is to be removed."""
    counts_parked = True
    is_ahead = False
    """Whether the live one has not come as far as what is parked before it stands still."""

    def __init__(self, parked: int = 0) -> None:
        self.parks_then: list[Parked] = []
        """On what comes while it is finished."""
        self.parks_at_last: list[Parked] = []
        """On what comes while the live one stands still."""
        self.asked = 0
        self.parked = [
            Parked("rooms", f"r{at}", f"room-{at}", 0, at, "ValueError: no") for at in range(parked)
        ]

    async def newly_parked(self) -> NewlyParked | None:
        self.asked += 1
        if self.is_ahead:
            return None
        return NewlyParked(len(self.parked), self.parked[0]) if self.parked else None

    async def finish(self) -> int:
        self.parked += self.parks_then
        return 0

    async def switch(self, reached: Reached) -> None:
        self.parked += self.parks_at_last
        self.is_ahead = False
        self.live = await reached(7) == 7

    async def discard(self) -> None:
        if self.stays:
            raise ReadStoreUnavailable("it does not answer")


async def built(generation: Generation, *, accept_parked: bool = False) -> None:
    builder = Builder("build:rooms", "postgres", ["rooms"], lambda: Full(generation))
    rebuild = Rebuild("rooms", ["postgres"], accept_parked=accept_parked)
    log: Any = None
    await build(generation, builder, rebuild, asyncio.Lock(), log)


async def test_a_generation_that_parks_served_keys_does_not_replace_the_live_one() -> None:
    generation = Generation(parked=3)
    with pytest.raises(WouldPark, match="of 'rooms' in postgres 3 keys that serve would be parked"):
        await built(generation)
    assert not generation.live


async def test_keys_parked_while_it_is_being_finished_count_too() -> None:
    generation = Generation()
    generation.parks_then = [Parked("rooms", "r9", "room-9", 0, 9, "ValueError: no")]
    with pytest.raises(WouldPark, match="the first r9"):
        await built(generation)
    assert not generation.live


async def test_keys_parked_while_the_live_one_is_locked_for_the_switch_count_too() -> None:
    generation = Generation()
    generation.parks_at_last = [Parked("rooms", "r9", "room-9", 0, 9, "ValueError: no")]
    with pytest.raises(WouldPark, match="the first r9"):
        await built(generation)
    assert not generation.live


async def test_served_keys_are_compared_up_to_where_the_live_one_is_locked() -> None:
    generation = Generation(parked=1)
    generation.is_ahead = True
    with pytest.raises(WouldPark, match="the first r0"):
        await built(generation)
    assert not generation.live


async def test_a_build_without_a_count_of_parked_keys_is_compared_in_the_switch_too() -> None:
    generation = Generation()
    generation.counts_parked = False
    generation.parks_at_last = [Parked("rooms", "r9", "room-9", 0, 9, "ValueError: no")]
    with pytest.raises(WouldPark, match="the first r9"):
        await built(generation)
    assert not generation.live


@pytest.mark.parametrize("accept_parked", [False, True])
async def test_nothing_is_compared_in_the_switch_unless_it_could_refuse_the_build(
    accept_parked: bool,
) -> None:
    generation = Generation()
    if accept_parked:
        generation.parks_at_last = [Parked("rooms", "r9", "room-9", 0, 9, "ValueError: no")]
    await built(generation, accept_parked=accept_parked)
    assert generation.live
    assert generation.asked == 2  # at the log's end, and when it was finished


@pytest.mark.parametrize("parked", [0, 3])
async def test_an_accepted_generation_replaces_the_live_one_and_its_parked_keys_are_logged(
    parked: int, caplog: pytest.LogCaptureFixture
) -> None:
    generation = Generation(parked)
    with caplog.at_level(logging.WARNING):
        await built(generation, accept_parked=True)
    assert generation.live
    told = [each.error for each in caplog.records]  # type: ignore[attr-defined]
    assert len(told) == min(parked, 1)
    assert all("3 keys that serve would be parked, the first r0" in each for each in told)


async def test_a_failed_build_that_cannot_be_removed_reports_the_original_error() -> None:
    generation = Generation(parked=1)
    generation.stays = True
    with pytest.raises(WouldPark):
        await built(generation)


async def test_a_finished_switch_is_no_failure_although_the_store_goes_down_afterwards() -> None:
    generation = Generation()
    generation.stays = True
    await built(generation)
    assert generation.live
