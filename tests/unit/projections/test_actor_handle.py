"""What users of a part are told about the actor behind it."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import RayActorError

from projections.errors import ProjectionError, UnknownTarget
from projections.supervision.actor_handle import ActorHandle


class _Actor:
    """Its `replay` ends so, as Ray would end it."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome
        self.replay = self

    async def remote(self, view: str, key: str) -> bool:
        assert (view, key) == ("v", "k")
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def replayed(outcome: Any) -> bool:
    return await ActorHandle("postgres:v", "postgres", _Actor(outcome), ["v"]).replay("v", "k")


@pytest.mark.parametrize("outcome", [True, False])
async def test_a_part_says_whether_it_came_over_the_event(outcome: bool) -> None:
    assert await replayed(outcome) is outcome


async def test_what_is_not_parked_is_told_from_an_actor_that_does_not_answer() -> None:
    with pytest.raises(UnknownTarget, match="not parked"):
        await replayed(UnknownTarget("not parked"))
    with pytest.raises(ProjectionError, match="postgres:v"):
        await replayed(RayActorError())
