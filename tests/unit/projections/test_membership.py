"""What an actor does if it was given the wrong log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.identity import store_id
from eventstore.memory import MemoryLog
from projections.errors import WrongStack
from projections.supervision import membership
from projections.supervision.membership import Membership
from rayfold.runtime.identity import Identity


async def test_the_log_of_its_stack_is_accepted() -> None:
    log = MemoryLog()
    member = Membership(Identity(store=await store_id(log)), log, None)
    await member.check()
    await member.confirmed()


async def test_another_log_is_refused_in_one_line() -> None:
    member = Membership(Identity(store="another"), MemoryLog(), None)
    for ask in (member.check, member.confirmed, member.check):
        with pytest.raises(WrongStack, match="reaches another event store") as refused:
            await ask()
        assert "\n" not in str(refused.value)


async def test_a_log_that_does_not_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "SOON", 0.01)
    monkeypatch.setattr(membership, "RETRY", 0.01)
    log = MemoryLog()
    name = await store_id(log)
    away = True

    async def asked(store: Any) -> str:
        if away:
            raise StoreUnavailable("away")
        return name

    monkeypatch.setattr(membership, "store_id", asked)
    member = Membership(Identity(store=name), log, None)
    await member.check()  # nobody knows yet
    waiting = asyncio.create_task(member.confirmed())
    await asyncio.sleep(0)
    assert not waiting.done()
    away = False
    async with asyncio.timeout(60):
        await waiting
