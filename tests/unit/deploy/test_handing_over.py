"""In which order a release follows another; see the decision record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.stack import handing_over
from deploy.stack.handing_over import HandingOver
from rayfold import RayfoldError

BEFORE = {"domain": "one", "read": {"actors": ["of one"]}}


def test_the_previous_read_part_is_kept_for_gateways_of_the_previous_release() -> None:
    assert HandingOver("", "two", BEFORE).previous == {"one": BEFORE["read"]}
    assert HandingOver("", "one", BEFORE).previous == {}
    assert HandingOver("", "two", {}).previous == {}


def test_an_interrupted_upgrade_continues() -> None:
    half = {"domain": "two", "read": {}, "previous": {"one": BEFORE["read"]}}
    assert HandingOver("", "two", half).previous == {"one": BEFORE["read"]}
    assert HandingOver("", "three", half).previous == {"one": BEFORE["read"], "two": {}}
    assert HandingOver("", "one", half).previous == {"two": {}}  # and back again


async def test_the_old_read_side_ends_after_the_last_old_gateway_and_hosts_after_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handing_over, "LOOK", 0.0)
    upgrade = HandingOver("", "two", BEFORE)
    gateways = [["here", "there"], ["there"], []]
    steps: list[Any] = []

    async def others() -> list[str]:
        steps.append(gateways.pop(0))
        return list(steps[-1])

    async def end() -> None:
        steps.append("the old read side ends")

    async def renew() -> None:
        steps.append("hosts")
        if steps.count("hosts") == 1:
            raise RayfoldError("one does not come up")

    monkeypatch.setattr(upgrade, "_others", others)
    async with asyncio.timeout(60):
        await upgrade.run(end, renew, lambda: steps.append(upgrade.previous))
    waited = [["here", "there"], ["there"], []]
    assert steps == [*waited, "the old read side ends", "hosts", "hosts", {}]
