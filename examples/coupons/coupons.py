"""Coupons: how often each was redeemed, and may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, NotFound, Rejected

CouponId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]
Times = Annotated[int, Field(ge=1, le=1_000_000)]


class IssueCoupon(Command, name="issue-coupon", creates=True):
    """It may be redeemed `times` in all, and `each` by one customer."""

    coupon_id: CouponId
    times: Times = 1000
    each: Times = 2


class WithdrawCoupon(Command, name="withdraw-coupon"):
    """Nobody may redeem it any more."""

    coupon_id: CouponId


class CouponIssued(Event, name="CouponIssued"):
    """It may be redeemed."""

    coupon_id: str
    times: int
    each: int


class CouponWithdrawn(Event, name="CouponWithdrawn"):
    """It may not be redeemed any more."""

    coupon_id: str


class CouponRedeemed(Event, name="CouponRedeemed"):
    """A customer has redeemed it, once."""

    coupon_id: str
    customer_id: str


CouponCommand = IssueCoupon | WithdrawCoupon
CouponEvent = CouponIssued | CouponWithdrawn | CouponRedeemed


class CouponState(Message):
    """What deciding on a coupon needs to know."""

    known: bool = False
    withdrawn: bool = False
    left: int = 0
    each: int = 0


class Coupon(
    Aggregate[CouponState, CouponCommand, CouponEvent],
    category="coupon",
    id_field="coupon_id",
    initial=CouponState(),
):
    """A coupon. It does not count redemptions for each customer: that would grow without bound."""

    @staticmethod
    def decide(state: CouponState, command: CouponCommand) -> Iterable[CouponEvent]:
        """See `Aggregate.decide`."""
        if isinstance(command, IssueCoupon):
            if state.known:
                raise Rejected("coupon-exists", f"coupon {command.coupon_id!r} exists already")
            return [CouponIssued(**command.model_dump())]
        usable(state, command.coupon_id)
        return [CouponWithdrawn(coupon_id=command.coupon_id)]

    @staticmethod
    def evolve(state: CouponState, event: CouponEvent) -> CouponState:
        """See `Aggregate.evolve`."""
        match event:
            case CouponIssued():
                return CouponState(known=True, left=event.times, each=event.each)
            case CouponWithdrawn():
                return state.replace(withdrawn=True)
            case CouponRedeemed():
                return state.replace(left=state.left - 1)


def usable(state: CouponState, coupon_id: str) -> None:
    """Raise `NotFound` for a coupon that does not exist, `Rejected` for a withdrawn one."""
    if not state.known:
        raise NotFound("unknown-coupon", f"there is no coupon {coupon_id!r}")
    if state.withdrawn:
        raise Rejected("coupon-withdrawn", f"coupon {coupon_id!r} was withdrawn")
