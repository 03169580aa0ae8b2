"""What is written during a forgetting, and on which state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.envelope import Done, enclose
from actors.errors import EventStoreUnavailable, StreamUnreadable, Unavailable
from actors.host.state.memory import MemoryStates
from actors.local import LocalRuntime
from actors.schedules.schedules import Schedules
from eventstore.personal.keys import SubjectKey
from eventstore.port import Appended, Conflict, StreamAppend
from eventstore.records import RawRecord
from rayfold import FORGOTTEN
from tests.personal.people import (
    Account,
    AccountState,
    ChangeEmail,
    CloseAccount,
    OpenAccount,
    WriteLetter,
)
from tests.unit.personal_world import REGISTER, World, record


@pytest.fixture
def world() -> World:
    return World()


async def test_states_in_memory_are_folded_again_after_a_forgetting(world: World) -> None:
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.runtime.host.forget_streams(lambda stream: stream.startswith("customer-"))
    await world.send(ChangeEmail(customer_id="ada", email="new@example.org"))
    assert (await world.read("customer-ada"))[-1].before == FORGOTTEN
    await world.assert_nothing_in_clear()


async def test_nothing_is_decided_on_old_data_during_a_forgetting(
    world: World,
) -> None:
    """The host still has the old address: it must fold again, and decide on the new state."""
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.keys.being_forgotten.add("ada")
    stale = ChangeEmail(customer_id="ada", email="new@example.org")
    [outcome] = await world.runtime.host.handle([enclose(world.registry, stale)])
    assert isinstance(outcome, Exception)
    world.keys.being_forgotten.clear()
    await world.send(stale)
    assert (await world.read("customer-ada"))[-1].before == FORGOTTEN


async def test_others_in_the_same_commit_are_not_delayed(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    appends = [
        StreamAppend(f"customer-{each}", None, [record(each)]) for each in ("ada", "bob", "eve")
    ]
    kinds = [type(each) for each in await world.log.append(appends)]
    assert kinds == [Conflict, Appended, Appended]


async def test_others_in_the_same_commit_are_not_delayed_with_stored_states(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    commands = [OpenAccount(holder=each, name="secret") for each in ("ada", "bob", "eve")]
    found = await world.runtime.host.handle([enclose(world.registry, each) for each in commands])
    assert [type(each) for each in found] == [Unavailable, Done, Done]
    await world.assert_nothing_in_clear()


async def test_others_that_write_to_the_same_stream_are_not_delayed(world: World) -> None:
    """Commands of several persons to one letter, in one batch."""
    world.keys.being_forgotten.add("ada")
    commands = [
        WriteLetter(letter_id="l1", customer_id=each, to="secret") for each in ("bob", "ada", "eve")
    ]
    found = await world.runtime.host.handle([enclose(world.registry, each) for each in commands])
    assert [type(each) for each in found] == [Done, Unavailable, Done]
    assert [each.customer_id for each in await world.read("letter-l1")] == ["bob", "eve"]
    assert str(found[1]) == "a person in its data is being forgotten"


async def test_a_scheduled_command_waits_as_any_other(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    envelope = enclose(world.registry, REGISTER)
    with pytest.raises(EventStoreUnavailable, match="being forgotten"):
        await Schedules(world.log).schedule(envelope, datetime.now(UTC) + timedelta(days=1))


async def test_forgetting_waits_for_commands_decided_on_old_data(world: World) -> None:
    """Otherwise it would be written under the next key."""
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.keys.being_forgotten.add("ada")
    may_ask, keys = asyncio.Event(), world.keys.to_write

    async def slow(subjects: Any) -> dict[str, SubjectKey]:
        await may_ask.wait()
        return await keys(subjects)

    world.keys.to_write = slow  # type: ignore[method-assign]
    stale = ChangeEmail(customer_id="ada", email="new@example.org")
    [outcome] = world.runtime.host.begin([enclose(world.registry, stale)])
    forgetting = asyncio.create_task(world.runtime.host.forget_known(lambda stream: True))
    done, _ = await asyncio.wait([forgetting], timeout=0.1)
    assert not done
    may_ask.set()
    await asyncio.wait_for(forgetting, 10)
    world.keys.being_forgotten.clear()
    await asyncio.wait([outcome])
    await world.send(ChangeEmail(customer_id="ada", email="newer@example.org"))
    left = await world.read("customer-ada")
    assert all("secret" not in each.before for each in left[1:])


class SlowStates(MemoryStates):
    """States that are committed once they may be."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()

    async def commit(self, changes: Any, relayed: Any) -> Any:
        if changes:
            self.asked.set()
            await self.may.wait()
        return await super().commit(changes, relayed)


def with_states(world: World, states: MemoryStates) -> World:
    world.states = states
    world.runtime = LocalRuntime(world.registry, world.log, states=states)
    return world


async def test_no_command_writes_old_data_into_a_row_again(world: World) -> None:
    """`close-account` has nothing personal in it, and its fold writes a name."""
    states = SlowStates()
    with_states(world, states)
    await world.send(OpenAccount(holder="ada", name="secret"))
    world.keys.forget("ada")
    states.asked.clear()
    states.may.clear()
    stale = enclose(world.registry, CloseAccount(holder="ada"))
    [outcome] = world.runtime.host.begin([stale])
    await asyncio.wait_for(states.asked.wait(), 10)
    refilling = asyncio.create_task(world.runtime.host.refill("account-ada"))
    await asyncio.sleep(0)
    states.may.set()
    await asyncio.wait_for(refilling, 10)
    assert isinstance(await outcome, Done)
    kept = await states.load(Account, "account-ada")
    assert kept is not None
    assert kept.state == AccountState(name=FORGOTTEN, label=f"{FORGOTTEN}, closed")


async def test_a_row_that_cannot_be_rebuilt_is_reported_and_not_tried_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_states(world, MemoryStates())
    await world.send(OpenAccount(holder="ada", name="secret"), CloseAccount(holder="ada"))
    await world.runtime.host.take_over()  # nothing is in the outbox
    read = world.beneath.read_stream

    def cut(stream: str, **options: Any) -> AsyncGenerator[RawRecord, None]:
        return read(stream, **{**options, "after": options.get("after") or 0})

    monkeypatch.setattr(world.beneath, "read_stream", cut)
    with pytest.raises(StreamUnreadable, match="cannot be made again"):
        await asyncio.wait_for(world.runtime.host.refill("account-ada"), 10)
    await world.runtime.host.refill("account-nobody")


async def test_no_row_is_left_of_a_tombstoned_aggregate(world: World) -> None:
    with_states(world, MemoryStates())
    await world.send(OpenAccount(holder="ada", name="secret"))
    await world.beneath.delete_stream("account-ada", tombstone=True)
    for _ in range(2):
        await world.runtime.host.refill("account-ada")
        assert await world.states.load(Account, "account-ada") is None
