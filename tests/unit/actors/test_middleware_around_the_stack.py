"""Middleware around commands that the stack itself sends: of processes, and scheduled ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import Unavailable
from actors.host import recent_commands
from actors.local import LocalRuntime
from actors.processes.delivery import Delivery, Refusal
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from eventstore.memory import MemoryLog
from rayfold import (
    Command,
    CommandContext,
    Forbidden,
    ProceedCommand,
    Receipt,
    Rejected,
)
from tests.contract.processes.stages import until
from tests.unit.middleware_domain import TEA, Around, recorded, with_middleware


class Watching(Around, name="watching"):
    """Keeps what it sees; refuses coffee, and to anybody who may not receive stock."""

    seen: list[CommandContext]

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Receipt:
        type(self).seen.append(context)
        if not context.may("stock:receive"):
            raise Forbidden("not-yours", "you may not")
        if getattr(command, "sku", "") == "coffee":
            raise Rejected("no-coffee", "tea alone")
        return await proceed(command)


async def test_commands_of_the_stack_go_through_middleware_at_each_attempt() -> None:
    Watching.seen = []
    registry, log = with_middleware(Watching), MemoryLog()
    delivery = Delivery(registry, log, LocalRuntime(registry, log).bus)
    envelope = enclose(registry, TEA, principal="process:restocking")
    assert not isinstance(await delivery.answer(envelope, -1), Refusal)
    refused = enclose(registry, TEA.replace(sku="coffee"))
    assert await delivery.answer(refused, -1) == Refusal("no-coffee", "tea alone")
    [first, _] = Watching.seen
    assert (first.origin, first.principal, first.role) == ("process", "process:restocking", "stack")


async def test_an_error_of_middleware_after_the_command_was_done_does_not_stop_a_process() -> None:
    """The command was done, as the log shows, so it must not be sent again and again."""
    tried: list[UUID] = []

    class Late(Around, name="late"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            tried.append(context.command_id)
            await proceed(command)
            raise ZeroDivisionError

    registry, log = with_middleware(Late), MemoryLog()
    delivery = Delivery(registry, log, LocalRuntime(registry, log).bus)
    async with asyncio.timeout(30):
        done = await delivery.answer(enclose(registry, TEA), -1)
    assert isinstance(done, Done)
    assert len(tried) == 1


@pytest.mark.parametrize("done", [True, False])
async def test_a_refusal_by_middleware_of_a_second_attempt_does_not_undo_the_first(
    done: bool,
) -> None:
    """If the unanswered first attempt counted as refused, a process would compensate it."""

    class Once(Around, name="once"):
        seen: ClassVar[set[UUID]] = set()

        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            if context.command_id in self.seen:
                raise Rejected("quota", "once a day")
            self.seen.add(context.command_id)
            return await proceed(command)

    class Lossy:
        async def send(self, envelope: Envelope) -> Receipt:
            if done:
                await local.bus.send(envelope)
            raise Unavailable("the connection was lost")

    registry, log = with_middleware(Once), MemoryLog()
    local = LocalRuntime(registry, log)
    async with asyncio.timeout(30):
        answer = await Delivery(registry, log, Lossy()).answer(enclose(registry, TEA), -1)
    assert answer == (Done(0, 1) if done else Refusal("quota", "once a day"))


async def test_an_error_of_middleware_on_a_lost_answer_does_not_repeat_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_commands, "ALWAYS_REMEMBERED", 1)
    monkeypatch.setattr(recent_commands, "RETENTION", 0.0)

    class Breaking(Around, name="breaking"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            try:
                return await proceed(command)
            except Unavailable:
                raise ZeroDivisionError from None

    class Lossy:
        sent = 0

        async def send(self, envelope: Envelope) -> Receipt:
            receipt = await local.bus.send(envelope)
            self.sent += 1
            if self.sent > 1:
                return receipt
            for _ in range(3):  # until the aggregate has forgotten it
                await local.bus.send(enclose(registry, TEA))
            raise Unavailable("the connection was lost")

    registry, log = with_middleware(Breaking), MemoryLog()
    local = LocalRuntime(registry, log)
    async with asyncio.timeout(30):
        answer = await Delivery(registry, log, Lossy()).answer(enclose(registry, TEA), -1)
    assert answer == Done(0, 1)
    assert len(await recorded(local, "stock-tea")) == 4


@pytest.mark.parametrize(
    ("role", "permissions", "status"),
    [
        ("writer", {"stock:receive"}, "accepted"),
        ("operator", {}, "accepted"),
        ("writer", {}, "rejected"),
    ],
)
async def test_a_scheduled_command_goes_through_middleware_as_its_scheduler_when_it_is_sent(
    role: str, permissions: set[str], status: str
) -> None:
    Watching.seen = []
    registry, log = with_middleware(Watching), MemoryLog()
    schedules, writes = Schedules(log), LocalRuntime(registry, log)
    envelope = enclose(registry, TEA, principal="ada")
    await schedules.schedule(envelope, datetime.now(UTC) - timedelta(hours=1), role, permissions)
    assert Watching.seen == []
    runner = ScheduleRunner(registry, log, writes.bus)
    await runner.start()

    async def answered() -> bool:
        told = await schedules.about(envelope.command_id)
        return told is not None and told["status"] == status

    try:
        await until(answered)
    finally:
        await runner.stop()
    [context] = Watching.seen
    assert (context.origin, context.principal, context.role) == ("schedule", "ada", role)
    assert context.headers == {}
