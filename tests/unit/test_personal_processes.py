"""Personal data in processes and scheduled commands, and what a forgetting leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.command_middleware import Bus
from actors.envelope import Envelope, enclose
from actors.errors import Unavailable
from actors.processes import commits
from actors.processes import runner as runner_module
from actors.processes.checkpoints import Layout
from actors.processes.runner import ProcessRunner
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from eventstore.errors import StoreUnavailable
from rayfold import FORGOTTEN, Receipt
from rayfold.runtime.turns import Turn
from rayfold.tenants import within
from tests.contract.processes.stages import until
from tests.personal.people import (
    Register,
    Registered,
)
from tests.unit.personal_world import REGISTER, World


@pytest.fixture
def world() -> World:
    return World()


async def test_a_scheduled_command_is_encrypted(world: World) -> None:
    schedules = Schedules(world.log)
    envelope = enclose(world.registry, REGISTER)
    await schedules.schedule(envelope, datetime.now(UTC) + timedelta(days=1))
    assert await world.everything()
    await world.assert_nothing_in_clear()


class Away:
    """A bus that does not answer until it is back."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self.asked, self.is_back = bus, asyncio.Event(), False

    async def send(self, envelope: Envelope) -> Receipt:
        self.asked.set()
        if not self.is_back:
            raise Unavailable("it is away")
        return await self._bus.send(envelope)


async def test_a_scheduled_command_that_is_retried_has_no_forgotten_data(
    world: World,
) -> None:
    """It is sent again and again: it would write decrypted data under the next key."""
    bus = Away(world.runtime.bus)
    await Schedules(world.log).schedule(enclose(world.registry, REGISTER), datetime.now(UTC))
    runner = ScheduleRunner(world.registry, world.log, bus)
    await runner.start()
    try:
        await asyncio.wait_for(bus.asked.wait(), 10)
        world.keys.forget("ada")
        await runner.forget_personal()
        bus.is_back = True
        await until(lambda: runner.fired == 1)
    finally:
        await runner.stop()
    [registered] = await world.read("customer-ada")
    assert registered == Registered(customer_id="ada", email=FORGOTTEN, born=None)


@asynccontextmanager
async def welcoming(world: World) -> AsyncIterator[ProcessRunner]:
    """Run the process that writes letters to who has registered."""
    runner = ProcessRunner(
        world.registry,
        world.registry.processes["welcome"],
        world.log,
        world.runtime.bus,
        layout=Layout(0, 1, 0),
    )
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def letter(world: World, letter_id: str) -> str:
    """Return to whom a letter is, once it was written."""
    written: list[Any] = []

    async def is_there() -> bool:
        written[:] = await world.read(f"letter-{letter_id}")
        return bool(written)

    await until(is_there)
    return str(written[0].to)


@pytest.mark.parametrize("told_to_forget", [True, False], ids=["it was told", "it finds out"])
async def test_events_that_wait_for_a_process_are_read_again_after_a_forgetting(
    world: World, monkeypatch: pytest.MonkeyPatch, told_to_forget: bool
) -> None:
    """Otherwise a step would write forgotten data again, or delay all until it may."""
    monkeypatch.setattr(commits, "RETRY", 0.01)
    append, tried, is_down = world.beneath.append, asyncio.Event(), True

    async def down(appends: Any) -> Any:
        if is_down and any(each.stream.startswith("process-welcome") for each in appends):
            tried.set()
            raise StoreUnavailable("away")
        return await append(appends)

    async with welcoming(world) as runner:
        monkeypatch.setattr(world.beneath, "append", down)
        await world.send(REGISTER)
        await asyncio.wait_for(tried.wait(), 10)
        world.keys.forget("ada")
        if told_to_forget:
            await runner.forget_personal()
        else:
            world.keys.being_forgotten.add("ada")
        await world.send(Register(customer_id="bob", email="bob@example.org"))
        is_down = False
        assert await letter(world, "bob-1") == "bob@example.org"
        assert await letter(world, "ada-1") == FORGOTTEN
    assert world.keys.subjects == {"bob"}


async def test_a_process_gets_no_forgotten_data_if_the_forgetting_is_during_a_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events are decrypted, and other tasks run before the process gets them."""
    paused, may_go_on = asyncio.Event(), asyncio.Event()

    class Long(Turn):
        async def pass_on(self) -> None:
            paused.set()
            await may_go_on.wait()

    monkeypatch.setattr(runner_module, "Turn", Long)
    monkeypatch.setattr(runner_module, "RETRY", 0.01)
    async with welcoming(world) as runner:
        await world.send(REGISTER)
        await asyncio.wait_for(paused.wait(), 10)
        world.keys.forget("ada")
        await runner.forget_personal()
        may_go_on.set()
        assert await letter(world, "ada-1") == FORGOTTEN
    assert world.keys.subjects == set()


async def test_a_process_does_not_get_an_event_that_was_deleted_before_a_forgetting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event cannot be read again: its data would be written under another key."""
    monkeypatch.setattr(commits, "RETRY", 0.01)
    append, tried, is_down = world.beneath.append, asyncio.Event(), True

    async def down(appends: Any) -> Any:
        if is_down and any(each.stream.startswith("process-welcome") for each in appends):
            tried.set()
            raise StoreUnavailable("away")
        return await append(appends)

    async with welcoming(world) as runner:
        monkeypatch.setattr(world.beneath, "append", down)
        await world.send(REGISTER)
        await asyncio.wait_for(tried.wait(), 10)
        await world.beneath.delete_stream("customer-ada")
        world.keys.forget("ada")
        await runner.forget_personal()
        is_down = False
        await until(lambda: "ada" not in runner.open)
        await world.send(Register(customer_id="bob", email="bob@example.org"))
        assert await letter(world, "bob-1") == "bob@example.org"
    assert await world.read("letter-ada-1") == []
    assert world.keys.subjects == {"bob"}


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_a_process_stores_its_events_and_commands_encrypted(tenant: str) -> None:
    world, ada = World(tenants=bool(tenant)), within(tenant, "ada")
    async with welcoming(world) as runner:
        await world.send(REGISTER, tenant=tenant)
        async with asyncio.timeout(10), aclosing(world.log.subscribe(["letter-"], None)) as found:
            async for batch in found:
                if batch.records:
                    break
        assert (await world.read(f"letter-{ada}-1"))[0].to == "secret@example.org"
        assert any(raw.stream == f"process-welcome-{ada}" for raw in await world.everything())
        await world.assert_nothing_in_clear()
        assert world.keys.subjects == {ada}
        world.keys.forget(ada)
        await runner.forget_personal()
        state = runner.in_memory(ada)
        assert state is None or state.instance.state.email == FORGOTTEN
