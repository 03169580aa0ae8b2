"""What a domain's middleware may do around commands, and what it may not."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.command_middleware import CommandMiddleware, Sender
from actors.errors import KeyReused
from actors.local import LocalRuntime
from domain.inventory.stock import ReceiveStock, ReserveStock
from domain.orders.commands import CreateOrder
from examples.coupons.coupons import Coupon
from examples.coupons.redeeming import RedeemCoupon
from rayfold import (
    Command,
    CommandContext,
    DomainError,
    Forbidden,
    NotFound,
    Origin,
    Receipt,
    Registry,
    Rejected,
)
from rayfold.errors import MiddlewareFailed
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.middleware_layers import DomainMiddleware
from tests.unit.middleware_domain import TEA, Around, recorded, runtime, with_middleware


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


async def test_a_repeat_runs_middleware_again_and_the_key_is_that_of_the_clients_command() -> None:
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
        (_of_another_type, "called proceed with a ReserveStock, not with a ReceiveStock"),
        (
            _for_another_aggregate,
            "called proceed with a receive-stock for another aggregate: stock-coff",
        ),
        (_unvalidated, "called proceed with a receive-stock that is not valid"),
        (_no_value_of_the_field, "broke: ValueError, see the log"),
        (_nothing, "called proceed with nothing, not with a ReceiveStock"),
    ],
)
async def test_a_command_changed_in_a_forbidden_way_is_refused(change: Any, reason: str) -> None:
    class Changing(Around, name="changing"):
        async def command(self, command: Any, context: Any, proceed: Any) -> Any:
            return await proceed(change(command))

    local = runtime(Changing)
    with pytest.raises(MiddlewareFailed, match=reason) as failed:
        await local.send(TEA)
    assert failed.value.middleware == "changing"
    assert not failed.value.done
    assert await recorded(local, "stock-tea") == await recorded(local, "stock-coffee") == []


async def test_an_error_of_middleware_is_answered_with_its_name_and_details_are_only_in_the_log(
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
async def test_an_error_of_any_kind_raised_by_middleware_is_reported_as_its_own(
    what: BaseException, where: str
) -> None:
    class Raising(Around, name="raising"):
        async def open(self) -> None:
            if where == "open":
                raise what

        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise what

    with pytest.raises(MiddlewareFailed, match=f"'raising' .*: {type(what).__name__}, see"):
        await runtime(Raising).send(TEA)


@pytest.mark.parametrize(
    "what",
    [None, "done", Receipt(command_id=UUID(int=1), stream="stock-tea", revision=0, position=1)],
)
async def test_middleware_that_does_not_call_proceed_cannot_return_a_receipt(what: Any) -> None:
    class Swallowing(Around, name="swallowing"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return what

    local = runtime(Swallowing)
    with pytest.raises(MiddlewareFailed, match="return what proceed gives"):
        await local.send(TEA)
    assert await recorded(local, "stock-tea") == []


def test_middleware_that_cannot_be_created_is_reported_in_one_line() -> None:
    class Unmade(Around, name="unmade"):
        def __init__(self) -> None:
            raise KeyError("QUOTA_URL")

    with pytest.raises(DomainError, match="Unmade cannot be made: KeyError: 'QUOTA_URL'"):
        DomainMiddleware(with_middleware(Unmade))


def test_a_domain_without_middleware_has_nothing_around_its_commands(registry: Registry) -> None:
    middleware = DomainMiddleware(registry)
    assert middleware.around("command") is middleware.around("query") is None
    assert CommandMiddleware.of(registry, LocalRuntime(registry).bus, middleware) is None


def test_a_change_of_middleware_is_another_release() -> None:
    class First(Around, name="first"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            return await proceed(command)

    class Second(Around, name="first"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            raise Rejected("no", "no")

    hashes = {domain_hash(with_middleware(*each)) for each in ([], [First], [Second])}
    assert len(hashes) == 3


async def test_middleware_cannot_change_which_aggregates_a_decision_is_about() -> None:
    class Changing(Around, name="changing"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, RedeemCoupon)
            return await proceed(command.replace(customer_id="another"))

    registry = with_middleware(Changing, package="examples.coupons")
    assert Coupon.category in registry.aggregates
    with pytest.raises(MiddlewareFailed, match="for another aggregate"):
        await LocalRuntime(registry).send(RedeemCoupon(coupon_id="spring", customer_id="ada"))


async def test_a_command_that_begins_an_aggregate_may_be_filled_in() -> None:
    class Naming(Around, name="naming"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, CreateOrder)
            return await proceed(command.replace(customer_id=context.principal))

    local, order_id = runtime(Naming), uuid4()
    await local.send(CreateOrder(order_id=order_id, customer_id="?"), principal="ada")
    [event] = await recorded(local, f"order-{order_id}")
    assert '"customer_id":"ada"' in event
