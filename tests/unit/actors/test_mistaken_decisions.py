"""Mistaken decisions over several aggregates: each fails only its own command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import Done, enclose
from actors.errors import (
    DecisionFailed,
    InvalidCommand,
)
from actors.local import LocalRuntime
from actors.processes.delivery import Delivery
from examples.coupons.coupons import (
    Coupon,
    CouponRedeemed,
    IssueCoupon,
)
from examples.coupons.customers import Customer
from examples.coupons.redeeming import Redeem, RedeemCoupon
from rayfold import Command, Decision, Event, Read, Registry
from tests.unit.actors.coupons import (
    CountingLog,
    Coupons,
    Inspect,
    InspectCoupon,
    always,
    domain_of,
    redeem,
)

pytestmark = pytest.mark.usefixtures("one_turn")


@pytest.fixture
def log() -> CountingLog:
    return CountingLog()


@pytest.fixture
def coupons(log: CountingLog) -> Coupons:
    return Coupons(Registry.load("examples.coupons"), log)


class Move(Command, name="move"):
    """From one coupon to another, whatever that would mean."""

    source: str
    target: str
    amount: int = 1


class Moving(
    Decision[Move],
    reads={
        "source": Read(Coupon, by="source"),
        "target": Read(Coupon, by=lambda command: command.target.removeprefix("->")),
    },
):
    """Two of one kind."""

    @staticmethod
    def decide(states: Any, command: Move) -> Iterable[Event]:
        for each in (command.source, command.target):
            yield CouponRedeemed(coupon_id=each, customer_id=str(command.amount))


class TooMany:
    """Events without end, as often as it is decided: again, where it was on what was not read."""

    def __iter__(self) -> Iterator[Event]:
        return (CouponRedeemed(coupon_id="c", customer_id="a") for _ in range(30_000))


@pytest.mark.parametrize(
    ("yielded", "why"),
    [
        ([CouponRedeemed(coupon_id="other", customer_id="ada")], "'coupon-other'"),
        ([Move(source="a", target="b")], "is not among the events of Coupon, Customer"),
        ([7], "int"),
        (7, "not iterable"),
        (None, "returns None"),
        (TooMany(), "more than"),
        (
            [CouponRedeemed.model_construct(coupon_id="c", customer_id=b"\xff")],
            "customer_id",
        ),
    ],
)
async def test_an_event_that_decide_may_not_yield_fails_only_its_command(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch, yielded: Any, why: str
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))

    def decide(states: Any, command: RedeemCoupon) -> Any:
        return yielded if command.customer_id == "eve" else always(states, command)

    monkeypatch.setattr(Redeem, "decide", staticmethod(decide))
    one, failed, two = await coupons.all(redeem(), redeem("eve"), redeem())
    assert isinstance(failed, DecisionFailed)
    assert why in str(failed)
    assert (one.revision, two.revision) == (1, 2)


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), SystemExit(1), RecursionError()])
async def test_a_decision_that_raises_fails_only_its_command(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))

    def decide(states: Any, command: RedeemCoupon) -> Iterable[Event]:
        if command.customer_id == "eve":
            raise error
        return always(states, command)

    monkeypatch.setattr(Redeem, "decide", staticmethod(decide))
    outcomes = await coupons.all(redeem(), redeem("eve"), redeem())
    assert [type(each) for each in outcomes] == [Done, DecisionFailed, Done]


async def test_an_evolve_that_raises_fails_the_decision(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    evolve = Customer.evolve

    def broken(state: Any, event: Any) -> Any:
        if event.customer_id == "eve":
            raise KeyError("eve")
        return evolve(state, event)

    monkeypatch.setattr(Customer, "evolve", staticmethod(broken))
    outcomes = await coupons.all(redeem(), redeem("eve"), redeem())
    assert [type(each) for each in outcomes] == [Done, DecisionFailed, Done]
    assert await coupons.types("customer-eve") == []


async def test_two_instances_of_a_kind_must_be_different(log: CountingLog) -> None:
    moves = Coupons(domain_of(Moving), log)
    big = 2**70
    done = await moves.send(Move(source="ä b/-", target="-", amount=big))
    assert done.revisions == {"coupon-ä b/-": 0, "coupon--": 0}
    again = await moves.send(Move(source="-", target="ä b/-", amount=big))
    assert again.revisions == {"coupon--": 1, "coupon-ä b/-": 1}
    for source, target, why in (
        ("x", "x", "source and target are the same: 'coupon-x'"),
        ("x", "->x", "source and target are the same: 'coupon-x'"),
        ("x", "X", "the same but for their case: 'coupon-X'"),
        ("", "x", "source is empty"),
        ("x", "", "target is empty"),
        ("x", "a\x00b", "control characters"),
        ("x" * 2000, "y", "at most 1024"),
    ):
        with pytest.raises(InvalidCommand, match=why):
            enclose(moves.registry, Move(source=source, target=target))


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
async def test_an_id_that_cannot_be_made_of_a_command_fails_it(
    log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = Coupons(domain_of(Moving), log)
    command = Move.model_construct(source="x", target=7, amount=1)
    with pytest.raises(DecisionFailed, match="move failed: AttributeError"):
        enclose(moves.registry, command)


async def test_a_process_finds_its_decision_in_whichever_stream_it_stands(
    log: CountingLog,
) -> None:
    registry = domain_of(Inspect)
    runtime = LocalRuntime(registry, log)
    await runtime.send(IssueCoupon(coupon_id="c"))
    delivery = Delivery(registry, log, runtime.bus)
    key = uuid4()
    envelope = enclose(registry, InspectCoupon(coupon_id="c", customer_id="ada"), command_id=key)
    first = await delivery.answer(envelope, -1)
    assert isinstance(first, Done)
    # Sent before, and nobody remembers: the log is asked, of the customer too.
    nobody = Delivery(registry, log, None)  # type: ignore[arg-type]
    again = await nobody.answer(envelope, 0, sent=True)
    assert isinstance(again, Done)
    assert (again.revision, again.revisions) == (0, {"coupon-c": 0, "customer-ada": 0})
