"""What a domain's middleware may do around commands, and what it may not."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest

from actors.command_middleware import ANYBODY, CommandMiddleware, Sender
from actors.envelope import Done, Envelope, enclose
from actors.errors import KeyReused, Overloaded, RevisionMismatch, Unavailable
from actors.host import recent_commands
from actors.local import LocalRuntime
from actors.processes.delivery import Delivery, Refusal
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from domain.inventory.stock import ReceiveStock, ReserveStock
from domain.orders.commands import CreateOrder
from eventstore.memory import MemoryLog
from examples.coupons.coupons import Coupon
from examples.coupons.redeeming import RedeemCoupon
from rayfold import (
    Command,
    CommandContext,
    DomainError,
    Forbidden,
    Middleware,
    NotFound,
    Origin,
    ProceedCommand,
    Receipt,
    Registry,
    Rejected,
)
from rayfold.errors import MiddlewareFailed
from rayfold.runtime import middleware_layers
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.middleware_layers import DomainMiddleware
from tests.contract.processes.stages import until
from tests.unit.middleware_domain import with_middleware

TEA = ReceiveStock(sku="tea", quantity=2)


class Around(Middleware):
    """A base, which is nothing by itself."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Any:
        return await proceed(command)


def runtime(*classes: type[Middleware], log: MemoryLog | None = None) -> LocalRuntime:
    return LocalRuntime(with_middleware(*classes), log)


async def recorded(of: LocalRuntime, stream: str) -> list[str]:
    return [raw.data.decode() async for raw in of.log.read_stream(stream)]


async def test_the_lowest_order_is_outermost_and_each_is_told_who_asks_for_what() -> None:
    seen: list[Any] = []

    class Inner(Around, name="inner", order=2):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            seen.append("inner")
            return await proceed(command)

    class Outer(Around, name="outer", order=-1):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            seen.append((command, context))
            receipt = await proceed(command)
            seen.append(receipt)
            return receipt

    local, command_id = runtime(Inner, Outer), uuid4()
    sender = Sender(Origin.HTTP, "writer", frozenset({"stock:receive"}), {"x-shop": "1"})
    receipt = await local.send(TEA, command_id=command_id, principal="ada", sender=sender)
    (command, context), inner, told = seen
    assert (command, inner, told) == (TEA, "inner", receipt)
    assert context == CommandContext(
        command_id=command_id,
        stream="stock-tea",
        origin=Origin.HTTP,
        principal="ada",
        role="writer",
        permissions=frozenset({"stock:receive"}),
        correlation_id=str(command_id),
        headers={"x-shop": "1"},
    )
    assert context.may("stock:receive")
    assert not context.may("stock:reserve")


@pytest.mark.parametrize("refusal", [Rejected, NotFound, Forbidden])
async def test_a_refusal_is_the_answer_and_nothing_is_appended(refusal: type[Rejected]) -> None:
    class No(Around, name="no"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise refusal("not-today", "come back tomorrow")

    local = runtime(No)
    with pytest.raises(refusal, match="come back tomorrow"):
        await local.send(TEA)
    assert await recorded(local, "stock-tea") == []


async def test_a_changed_command_is_what_is_decided() -> None:
    class Double(Around, name="double"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, ReceiveStock)
            return await proceed(command.replace(quantity=command.quantity * 2))

    local = runtime(Double)
    await local.send(TEA)
    [event] = await recorded(local, "stock-tea")
    assert '"quantity":4' in event


async def test_sent_again_it_runs_again_and_the_key_is_still_that_of_the_clients_command() -> None:
    quantities = iter((1, 2, 3, 4))

    class Counting(Around, name="counting"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, ReceiveStock)
            return await proceed(command.replace(quantity=next(quantities)))

    local, command_id = runtime(Counting), uuid4()
    first = await local.send(TEA, command_id=command_id)
    again = await local.send(TEA, command_id=command_id)
    assert again == first  # though what was made of it differs
    other = TEA.replace(quantity=9)
    with pytest.raises(KeyReused):  # though the same might have been made of it
        await local.send(other, command_id=command_id)
    assert len(await recorded(local, "stock-tea")) == 1
    assert next(quantities) == 4


def _of_another_type(command: ReceiveStock) -> Any:
    return ReserveStock(sku=command.sku, quantity=1)


def _for_another_aggregate(command: ReceiveStock) -> Any:
    return command.replace(sku="coffee")


def _unvalidated(command: ReceiveStock) -> Any:
    return ReceiveStock.model_construct(sku=command.sku, quantity=-1)


def _no_value_of_the_field(command: ReceiveStock) -> Any:
    return command.replace(quantity=-1)


def _nothing(command: ReceiveStock) -> Any:
    return None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_of_another_type, "went on with a ReserveStock, not with a ReceiveStock"),
        (_for_another_aggregate, "went on with a receive-stock for another aggregate: stock-coff"),
        (_unvalidated, "went on with a receive-stock that does not fit"),
        (_no_value_of_the_field, "broke: ValueError, see the log"),
        (_nothing, "went on with nothing, not with a ReceiveStock"),
    ],
)
async def test_what_nobody_may_make_of_a_command_is_refused(change: Any, reason: str) -> None:
    class Changing(Around, name="changing"):
        async def command(self, command: Any, context: Any, proceed: Any) -> Any:
            return await proceed(change(command))

    local = runtime(Changing)
    with pytest.raises(MiddlewareFailed, match=reason) as failed:
        await local.send(TEA)
    assert failed.value.middleware == "changing"
    assert not failed.value.done
    assert await recorded(local, "stock-tea") == await recorded(local, "stock-coffee") == []


async def test_one_that_breaks_is_told_by_its_name_and_what_it_said_is_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Around, name="broken"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise ZeroDivisionError("password 1234")

    local = runtime(Broken)
    with caplog.at_level(logging.ERROR), pytest.raises(MiddlewareFailed) as failed:
        await local.send(TEA)
    assert (
        str(failed.value)
        == "the domain's middleware 'broken' broke: ZeroDivisionError, see the log"
    )
    assert "password 1234" in caplog.text
    assert await recorded(local, "stock-tea") == []


class Odd(BaseException):
    """What nobody would raise who had thought of it."""


@pytest.mark.parametrize("where", ["command", "open"])
@pytest.mark.parametrize("what", [Odd(), SystemExit(3), BaseExceptionGroup("two", [Odd()])])
async def test_whatever_it_raises_is_told_as_its_own(what: BaseException, where: str) -> None:
    class Raising(Around, name="raising"):
        async def open(self) -> None:
            if where == "open":
                raise what

        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise what

    with pytest.raises(MiddlewareFailed, match=f"'raising' .*: {type(what).__name__}, see"):
        await runtime(Raising).send(TEA)


@pytest.mark.parametrize("way", ["raises", "refuses", "returns"])
async def test_one_that_fails_afterwards_says_that_the_command_was_done(way: str) -> None:
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
async def test_what_may_have_been_done_is_not_refused(how: str) -> None:
    """409 means that nothing was appended; a process would undo what stands."""
    sent: list[Envelope] = []
    may_end = asyncio.Event()

    class Refusing(Around, name="refusing", order=1):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            going = asyncio.ensure_future(proceed(command))
            await asyncio.wait([going], timeout=0.01)
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
    reason = "what was done already" if how == "behind it" else "what may have been done"
    with pytest.raises(MiddlewareFailed, match=rf"refused \(try-later\) {reason}") as failed:
        await around.send(enclose(registry, TEA), ANYBODY)
    assert failed.value.done is (how == "behind it")
    assert len(sent) == 1
    may_end.set()


async def test_a_refusal_that_comes_from_behind_it_after_no_answer_is_final() -> None:
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


async def test_what_is_done_is_told_though_going_on_again_fails() -> None:
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
    with pytest.raises(MiddlewareFailed, match="went on again, in vain: Overloaded") as failed:
        await around.send(enclose(registry, TEA), ANYBODY)
    assert failed.value.done


@pytest.mark.parametrize(
    "what",
    [None, "done", Receipt(command_id=UUID(int=1), stream="stock-tea", revision=0, position=1)],
)
async def test_without_going_on_there_is_no_receipt(what: Any) -> None:
    class Swallowing(Around, name="swallowing"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return what

    local = runtime(Swallowing)
    with pytest.raises(MiddlewareFailed, match="return what proceed gives"):
        await local.send(TEA)
    assert await recorded(local, "stock-tea") == []


async def test_going_on_twice_is_the_same_command_twice() -> None:
    class Twice(Around, name="twice"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            first, second = await asyncio.gather(proceed(command), proceed(command))
            assert first == second
            return await proceed(command)

    local = runtime(Twice)
    await local.send(TEA)
    assert len(await recorded(local, "stock-tea")) == 1


async def test_going_on_after_its_end_is_refused() -> None:
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
    with pytest.raises(MiddlewareFailed, match="went on after its end"):
        await later[0]
    assert await recorded(local, "stock-tea") == []


async def test_what_comes_from_behind_it_is_what_it_was_and_may_be_answered_otherwise() -> None:
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


async def test_what_is_late_behind_it_is_not_its_fault() -> None:
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
async def test_one_that_hangs_ends_with_the_commands_deadline(swallowed: bool) -> None:
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


async def test_a_client_that_goes_away_is_no_fault_of_it() -> None:
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


async def test_a_task_of_its_own_that_it_cancelled_does_not_cancel_the_request() -> None:
    class Cancelling(Around, name="cancelling"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            waiting.cancel()
            await waiting

    with pytest.raises(MiddlewareFailed, match="broke: CancelledError"):
        await runtime(Cancelling).send(TEA)


async def test_it_is_opened_once_before_the_first_and_again_if_it_could_not() -> None:
    happened: list[str] = []

    class Opening(Around, name="opening"):
        async def open(self) -> None:
            happened.append("open")
            if len(happened) == 1:
                raise OSError("not there yet")

        async def close(self) -> None:
            happened.append("close")

    local = runtime(Opening)
    with pytest.raises(MiddlewareFailed, match="does not open: OSError"):
        await local.send(TEA)
    await asyncio.gather(local.send(TEA), local.send(TEA))
    await local.close()
    await local.close()
    assert happened == ["open", "open", "close"]


async def test_opening_goes_on_though_nobody_has_the_time_to_wait_for_it() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    happened: list[str] = []

    class Slow(Around, name="slow", order=2):
        async def open(self) -> None:
            happened.append("open")
            begun.set()
            await may_end.wait()

    class Outer(Around, name="outer", order=1):
        pass

    local = runtime(Outer, Slow)
    for _ in range(2):  # one runs out of time, the other goes away
        begun.clear()
        waiting = asyncio.create_task(_in_time(local, 0.05))
        with pytest.raises(Unavailable, match="in the domain's middleware 'slow'"):
            await waiting
        going = asyncio.create_task(local.send(TEA))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    may_end.set()
    await local.send(TEA)
    assert happened == ["open"]


async def _in_time(local: LocalRuntime, seconds: float) -> Receipt:
    around = local._around
    assert around is not None
    return await around.send(enclose(local._registry, TEA, timeout=seconds), ANYBODY)


async def test_what_opens_when_it_is_closed_is_broken_off_and_what_has_opened_is_closed() -> None:
    begun = asyncio.Event()
    happened: list[str] = []

    class Slow(Around, name="slow", order=2):
        async def open(self) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                happened.append("broken off")

        async def close(self) -> None:
            happened.append("slow")

    class Outer(Around, name="outer", order=1):
        async def close(self) -> None:
            happened.append("outer")

    local = runtime(Outer, Slow)
    sending = asyncio.create_task(local.send(TEA))
    await begun.wait()
    await local.close()
    assert happened == ["broken off", "outer"]
    with pytest.raises(MiddlewareFailed, match="'slow' does not open: CancelledError"):
        await sending


async def test_one_that_does_not_open_holds_up_what_comes_to_it_alone() -> None:
    class Reads(Middleware, name="reads", order=1):
        async def open(self) -> None:
            raise OSError("its database is away")

        async def query(self, query: Any, context: Any, proceed: Any) -> Any:
            return await proceed(query)

    class Guard(Around, name="guard", order=2):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            if context.principal == "eve":
                raise Forbidden("no", "not you")
            return await proceed(command)

    class Away(Around, name="away", order=3):
        async def open(self) -> None:
            raise OSError("its database is away")

    local = runtime(Reads, Guard, Away)
    with pytest.raises(MiddlewareFailed, match="'away' does not open"):
        await local.send(TEA)
    with pytest.raises(Forbidden):
        await local.send(TEA, principal="eve")


async def test_one_that_does_not_close_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(middleware_layers, "CLOSING", 0.01)
    closed: list[str] = []

    class First(Around, name="first", order=1):
        async def close(self) -> None:
            closed.append("first")

    class Hanging(Around, name="hanging", order=2):
        async def close(self) -> None:
            await asyncio.Event().wait()

    local = runtime(First, Hanging)
    await local.send(TEA)
    await local.close()
    assert closed == ["first"]
    assert "a middleware does not close" in caplog.text


def test_one_that_cannot_be_made_is_told_in_a_line() -> None:
    class Unmade(Around, name="unmade"):
        def __init__(self) -> None:
            raise KeyError("QUOTA_URL")

    with pytest.raises(DomainError, match="Unmade cannot be made: KeyError: 'QUOTA_URL'"):
        DomainMiddleware(with_middleware(Unmade))


def test_a_domain_without_any_has_nothing_around_its_commands(registry: Registry) -> None:
    middleware = DomainMiddleware(registry)
    assert middleware.around("command") is middleware.around("query") is None
    assert CommandMiddleware.of(registry, LocalRuntime(registry).bus, middleware) is None


def test_a_change_of_it_is_another_release() -> None:
    class First(Around, name="first"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return await proceed(command)

    class Second(Around, name="first"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise Rejected("no", "no")

    hashes = {domain_hash(with_middleware(*each)) for each in ([], [First], [Second])}
    assert len(hashes) == 3


async def test_a_decision_over_several_stays_one_over_the_same() -> None:
    class Changing(Around, name="changing"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, RedeemCoupon)
            return await proceed(command.replace(customer_id="another"))

    registry = with_middleware(Changing, package="examples.coupons")
    assert Coupon.category in registry.aggregates
    with pytest.raises(MiddlewareFailed, match="for another aggregate"):
        await LocalRuntime(registry).send(RedeemCoupon(coupon_id="spring", customer_id="ada"))


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


async def test_what_the_stack_sends_goes_through_it_at_each_attempt() -> None:
    Watching.seen = []
    registry, log = with_middleware(Watching), MemoryLog()
    delivery = Delivery(registry, log, LocalRuntime(registry, log).bus)
    envelope = enclose(registry, TEA, principal="process:restocking")
    assert not isinstance(await delivery.answer(envelope, -1), Refusal)
    refused = enclose(registry, TEA.replace(sku="coffee"))
    assert await delivery.answer(refused, -1) == Refusal("no-coffee", "tea alone")
    [first, _] = Watching.seen
    assert (first.origin, first.principal, first.role) == ("process", "process:restocking", "stack")


async def test_one_that_breaks_afterwards_does_not_hold_a_process_up() -> None:
    """The command was done, and the log says so: it is not sent again and again."""
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
async def test_one_that_refuses_a_second_attempt_does_not_undo_the_first(done: bool) -> None:
    """The first had no answer. Were it told as refused, a process would compensate what stands."""

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


async def test_one_that_breaks_on_a_lost_answer_has_no_command_count_twice(
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
async def test_a_command_for_later_goes_through_it_when_it_is_sent_as_whoever_scheduled_it(
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


async def test_a_command_that_begins_an_aggregate_may_be_filled_in() -> None:
    class Naming(Around, name="naming"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, CreateOrder)
            return await proceed(command.replace(customer_id=context.principal))

    local, order_id = runtime(Naming), uuid4()
    await local.send(CreateOrder(order_id=order_id, customer_id="?"), principal="ada")
    [event] = await recorded(local, f"order-{order_id}")
    assert '"customer_id":"ada"' in event


async def test_one_that_is_closed_before_it_begins_to_open_is_told_as_its_own() -> None:
    """A cancellation that nobody asked for would be taken for the client's."""

    class Closed(Around, name="closed"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return await proceed(command)

    local = runtime(Closed)
    sending = asyncio.create_task(local.send(TEA))
    await asyncio.sleep(0)  # its opening is a task that has not run yet
    await local.close()
    with pytest.raises(MiddlewareFailed, match="was closed before it was open"):
        await sending
