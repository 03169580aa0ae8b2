"""What an actor of the read side goes on with, from its first call to its end."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.identity import store_id
from eventstore.memory import MemoryLog
from projections.errors import WrongStack
from projections.supervision.actor_work import ActorWork
from projections.supervision.membership import Membership
from rayfold.runtime.identity import Identity
from tests.own_loop import own_loop


class Working:
    """Work that notes what happens to it, and to the connection that it has."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.at_work = asyncio.Event()

    async def run(self) -> None:
        self.happened.append("begins")
        self.at_work.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what it undoes takes a moment
            self.happened.append("ends")

    async def close(self) -> None:
        self.happened.append("is closed")


async def test_its_work_begins_once_and_ends_before_its_connections_are_closed() -> None:
    log, working = MemoryLog(), Working()
    member = Membership(Identity(store=await store_id(log)), log, None)
    work = ActorWork(member, working.run, working)
    work.begin()
    work.begin()
    assert (await work.process_status())["pid"]
    async with asyncio.timeout(60):
        await working.at_work.wait()
        await work.stop()
    assert working.happened == ["begins", "ends", "is closed"]


@own_loop
@pytest.mark.parametrize("begun", [False, True])
async def test_work_that_is_stopped_before_it_begins_never_begins(begun: bool) -> None:
    """Also if its first call comes later, or before the task has begun."""
    log, working = MemoryLog(), Working()
    before = asyncio.all_tasks()
    member = Membership(Identity(store=await store_id(log)), log, None)
    work = ActorWork(member, working.run, working)
    if begun:
        work.begin()
    async with asyncio.timeout(60):
        await work.stop()
    await work.process_status()
    assert not asyncio.all_tasks() - before
    assert working.happened == ["is closed"]


async def test_work_does_not_begin_on_another_stacks_log() -> None:
    working = Working()
    work = ActorWork(Membership(Identity(store="another"), MemoryLog(), None), working.run, working)
    with pytest.raises(WrongStack):
        await work.process_status()
    async with asyncio.timeout(60):
        await work.stop()
    assert working.happened == ["is closed"]
