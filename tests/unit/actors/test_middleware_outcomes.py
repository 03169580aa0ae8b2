"""What is answered for a command that was done, or may be, when its middleware fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.command_middleware import ANYBODY, CommandMiddleware, Sender
from actors.envelope import Envelope, enclose
from actors.errors import Overloaded, RevisionMismatch, Unavailable
from actors.local import LocalRuntime
from rayfold import (
    Command,
    Origin,
    Receipt,
    Rejected,
)
from rayfold.errors import MiddlewareFailed
from rayfold.runtime.middleware_layers import DomainMiddleware
from tests.unit.middleware_domain import TEA, Around, recorded, runtime, with_middleware


@pytest.mark.parametrize("way", ["raises", "refuses", "returns"])
async def test_middleware_that_fails_after_the_command_says_that_it_was_done(way: str) -> None:
    class Late(Around, name="late"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            receipt = await proceed(command)
            if way == "raises":
                raise ZeroDivisionError
            if way == "refuses":
                raise Rejected("too-late", "no")
            return receipt.replace(revision=7)

    local = runtime(Late)
    with pytest.raises(MiddlewareFailed, match="the command was done before") as failed:
        await local.send(TEA)
    assert failed.value.done
    assert len(await recorded(local, "stock-tea")) == 1


@pytest.mark.parametrize("how", ["no answer", "goes on", "behind it"])
async def test_a_command_that_may_have_been_done_cannot_be_refused(how: str) -> None:
    """409 means that nothing was appended; a process would compensate a done command."""
    sent: list[Envelope] = []
    may_end = asyncio.Event()

    class Refusing(Around, name="refusing", order=1):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            going = asyncio.ensure_future(proceed(command))
            await asyncio.wait([going], timeout=0.01 if how == "goes on" else None)
            if going.done():
                going.exception()
            self.going = going
            raise Rejected("try-later", "no answer")

    class Breaking(Around, name="breaking", order=2):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            await proceed(command)
            raise ZeroDivisionError

    class Lost:
        async def send(self, envelope: Envelope) -> Receipt:
            sent.append(envelope)
            if how == "goes on":
                await may_end.wait()
            if how == "no answer":
                raise Unavailable("the connection was lost")
            return await local.bus.send(envelope)

    classes = [Refusing, Breaking] if how == "behind it" else [Refusing]
    registry = with_middleware(*classes)
    local = LocalRuntime(registry)
    around = CommandMiddleware.of(registry, Lost(), DomainMiddleware(registry))
    assert around is not None
    was = "was already" if how == "behind it" else "may have been"
    reason = f"a command that {was} done"
    with pytest.raises(MiddlewareFailed, match=rf"refused \(try-later\) {reason}") as failed:
        await around.send(enclose(registry, TEA), ANYBODY)
    assert failed.value.done is (how == "behind it")
    assert len(sent) == 1
    may_end.set()


async def test_a_refusal_from_behind_middleware_after_a_lost_answer_is_final() -> None:
    answers: list[Exception] = [Unavailable("lost"), Rejected("no", "the rule says")]

    class Again(Around, name="again"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            try:
                return await proceed(command)
            except Unavailable:
                return await proceed(command)

    class Flaky:
        async def send(self, envelope: Envelope) -> Receipt:
            raise answers.pop(0)

    registry = with_middleware(Again)
    around = CommandMiddleware.of(registry, Flaky(), DomainMiddleware(registry))
    assert around is not None
    with pytest.raises(Rejected):
        await around.send(enclose(registry, TEA), ANYBODY)


async def test_a_done_command_is_reported_as_done_although_a_second_proceed_fails() -> None:
    answers: list[Exception | None] = [None, Overloaded()]

    class Twice(Around, name="twice"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            await proceed(command)
            return await proceed(command)

    class Busy:
        async def send(self, envelope: Envelope) -> Receipt:
            if error := answers.pop(0):
                raise error
            return await local.bus.send(envelope)

    registry = with_middleware(Twice)
    local = LocalRuntime(registry)
    around = CommandMiddleware.of(registry, Busy(), DomainMiddleware(registry))
    assert around is not None
    with pytest.raises(
        MiddlewareFailed, match="called proceed again, and that failed: Overloaded"
    ) as failed:
        await around.send(enclose(registry, TEA), ANYBODY)
    assert failed.value.done


async def test_calling_proceed_twice_sends_the_same_command_twice() -> None:
    class Twice(Around, name="twice"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            first, second = await asyncio.gather(proceed(command), proceed(command))
            assert first == second
            return await proceed(command)

    local = runtime(Twice)
    await local.send(TEA)
    assert len(await recorded(local, "stock-tea")) == 1


async def test_calling_proceed_after_middleware_has_returned_is_refused() -> None:
    later: list[asyncio.Task[Any]] = []

    class Leaving(Around, name="leaving"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            later.append(asyncio.ensure_future(self._afterwards(command, proceed)))
            raise Rejected("no", "no")

        async def _afterwards(self, command: Command, proceed: Any) -> None:
            await proceed(command)

    local = runtime(Leaving)
    with pytest.raises(Rejected):
        await local.send(TEA)
    with pytest.raises(MiddlewareFailed, match="called proceed after it had returned"):
        await later[0]
    assert await recorded(local, "stock-tea") == []


async def test_middleware_may_pass_on_an_error_from_behind_it_or_answer_with_another() -> None:
    class Again(Around, name="again"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            try:
                return await proceed(command)
            except RevisionMismatch as error:
                if context.principal == "ada":
                    raise
                raise Rejected("changed-meanwhile", "look again") from error

    local = runtime(Again)
    with pytest.raises(RevisionMismatch):
        await local.send(TEA, expected_revision=3, principal="ada")
    with pytest.raises(Rejected, match="look again"):
        await local.send(TEA, expected_revision=3)


async def test_a_deadline_that_passes_behind_middleware_is_not_reported_as_its_fault() -> None:
    class Plain(Around, name="plain"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return await proceed(command)

    class Silent:
        async def send(self, envelope: Envelope) -> Receipt:
            await asyncio.Event().wait()
            raise AssertionError

    registry = with_middleware(Plain)
    around = CommandMiddleware.of(registry, Silent(), DomainMiddleware(registry))
    assert around is not None
    with pytest.raises(Unavailable, match=r"^the command's deadline has passed$"):
        await around.send(enclose(registry, TEA, timeout=0.05), Sender(Origin.HTTP, "writer"))


@pytest.mark.parametrize("swallowed", [False, True])
async def test_middleware_that_hangs_ends_with_the_commands_deadline(swallowed: bool) -> None:
    class Hanging(Around, name="hanging"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not swallowed:
                    raise

    registry = with_middleware(Hanging)
    local = LocalRuntime(registry)
    around = CommandMiddleware.of(registry, local.bus, DomainMiddleware(registry))
    assert around is not None
    envelope = enclose(registry, TEA, timeout=0.5)
    with pytest.raises(MiddlewareFailed if swallowed else Unavailable, match="'hanging'"):
        await around.send(envelope, Sender(Origin.HTTP, "writer"))


async def test_a_client_that_goes_away_is_not_reported_as_a_fault_of_middleware() -> None:
    began = asyncio.Event()
    ended: list[str] = []

    class Slow(Around, name="slow"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("it")

    sending = asyncio.create_task(runtime(Slow).send(TEA))
    await began.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert ended == ["it"]


async def test_a_task_that_middleware_cancelled_does_not_cancel_the_request() -> None:
    class Cancelling(Around, name="cancelling"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            waiting.cancel()
            await waiting

    with pytest.raises(MiddlewareFailed, match="broke: CancelledError"):
        await runtime(Cancelling).send(TEA)
