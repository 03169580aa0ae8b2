"""A coupon, a customer, and a redemption, each with only its own rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, NotFound, Rejected


class IssueCoupon(Command, name="issue-coupon", creates=True):
    """It may be redeemed `times` in all, and `each` by one customer."""

    coupon_id: str
    times: int = 1000
    each: int = 2


class TakeOff(Command, name="take-off"):
    """Take one redemption off the coupon."""

    coupon_id: str
    redemption_id: str


class PutBack(Command, name="put-back"):
    """Put back a redemption that was taken off."""

    coupon_id: str
    redemption_id: str


class CouponIssued(Event, name="CouponIssued"):
    """A coupon was issued."""

    coupon_id: str
    times: int
    each: int


class TakenOff(Event, name="TakenOff"):
    """One redemption was taken off; `each` is the limit for one customer."""

    coupon_id: str
    redemption_id: str
    each: int


class HasBeenPutBack(Event, name="HasBeenPutBack"):
    """A redemption that was taken off was put back."""

    coupon_id: str
    redemption_id: str


CouponCommand = IssueCoupon | TakeOff | PutBack
CouponEvent = CouponIssued | TakenOff | HasBeenPutBack


class CouponState(Message):
    """How many redemptions are left."""

    known: bool = False
    left: int = 0
    each: int = 0


class Coupon(
    Aggregate[
        CouponState, IssueCoupon | TakeOff | PutBack, CouponIssued | TakenOff | HasBeenPutBack
    ],
    category="coupon",
    id_field="coupon_id",
    initial=CouponState(),
):
    """A coupon, which can be redeemed a limited number of times."""

    @staticmethod
    def decide(state: CouponState, command: CouponCommand) -> Iterable[CouponEvent]:
        """See `Aggregate.decide`."""
        match command:
            case IssueCoupon():
                if state.known:
                    raise Rejected("coupon-exists", f"coupon {command.coupon_id!r} exists already")
                return [CouponIssued(**command.model_dump())]
            case PutBack():
                return [HasBeenPutBack(**command.model_dump())]
        if not state.known:
            raise NotFound("unknown-coupon", f"there is no coupon {command.coupon_id!r}")
        if state.left <= 0:
            raise Rejected("coupon-used-up", f"coupon {command.coupon_id!r} is used up")
        return [TakenOff(**command.model_dump(), each=state.each)]

    @staticmethod
    def evolve(state: CouponState, event: CouponEvent) -> CouponState:
        """See `Aggregate.evolve`."""
        match event:
            case CouponIssued():
                return CouponState(known=True, left=event.times, each=event.each)
            case TakenOff():
                return state.replace(left=state.left - 1)
            case HasBeenPutBack():
                return state.replace(left=state.left + 1)


class NoteRedemption(Command, name="note-redemption"):
    """Note that the customer redeems a coupon once more; `most` is the customer's limit."""

    customer_id: str
    coupon_id: str
    redemption_id: str
    most: int


class RedemptionNoted(Event, name="RedemptionNoted"):
    """The customer has redeemed a coupon, once more."""

    customer_id: str
    coupon_id: str
    redemption_id: str


class CustomerState(Message):
    """How often the customer redeemed each coupon."""

    redeemed: Mapping[str, int] = Field(default_factory=dict)


class Customer(
    Aggregate[CustomerState, NoteRedemption, RedemptionNoted],
    category="customer",
    id_field="customer_id",
    initial=CustomerState(),
):
    """A customer, who can redeem each coupon a limited number of times."""

    @staticmethod
    def decide(state: CustomerState, command: NoteRedemption) -> Iterable[RedemptionNoted]:
        """See `Aggregate.decide`."""
        if state.redeemed.get(command.coupon_id, 0) >= command.most:
            raise Rejected("customer-used-up", f"redeemed {command.most} times already")
        return [RedemptionNoted(**command.model_dump(exclude={"most"}))]

    @staticmethod
    def evolve(state: CustomerState, event: RedemptionNoted) -> CustomerState:
        """See `Aggregate.evolve`."""
        times = state.redeemed.get(event.coupon_id, 0) + 1
        return CustomerState(redeemed={**state.redeemed, event.coupon_id: times})


class Status(StrEnum):
    """How far a redemption has come."""

    REQUESTED = "requested"
    REDEEMED = "redeemed"
    REFUSED = "refused"


class RequestRedemption(Command, name="request-redemption", creates=True):
    """A customer wants to redeem a coupon, once."""

    redemption_id: str
    coupon_id: str
    customer_id: str


class ConfirmRedemption(Command, name="confirm-redemption"):
    """It was redeemed."""

    redemption_id: str


class RefuseRedemption(Command, name="refuse-redemption"):
    """It was not redeemed."""

    redemption_id: str
    rule: str


class RedemptionRequested(Event, name="RedemptionRequested"):
    """A customer wants to redeem a coupon, once."""

    redemption_id: str
    coupon_id: str
    customer_id: str


class RedemptionConfirmed(Event, name="RedemptionConfirmed"):
    """It was redeemed."""

    redemption_id: str


class RedemptionRefused(Event, name="RedemptionRefused"):
    """It was not redeemed."""

    redemption_id: str
    rule: str


RedemptionCommand = RequestRedemption | ConfirmRedemption | RefuseRedemption
RedemptionEvent = RedemptionRequested | RedemptionConfirmed | RedemptionRefused


class RedemptionState(Message):
    """Whether the redemption was requested, and whether it is decided."""

    status: Status | None = None


class Redemption(
    Aggregate[RedemptionState, RedemptionCommand, RedemptionEvent],
    category="redemption",
    id_field="redemption_id",
    initial=RedemptionState(),
):
    """A request to redeem a coupon, and its outcome."""

    @staticmethod
    def decide(state: RedemptionState, command: RedemptionCommand) -> Iterable[RedemptionEvent]:
        """See `Aggregate.decide`."""
        match command:
            case RequestRedemption():
                if state.status is not None:
                    raise Rejected("redemption-exists", "it was requested already")
                return [RedemptionRequested(**command.model_dump())]
            case ConfirmRedemption():
                return [RedemptionConfirmed(redemption_id=command.redemption_id)]
            case RefuseRedemption():
                return [RedemptionRefused(**command.model_dump())]

    @staticmethod
    def evolve(state: RedemptionState, event: RedemptionEvent) -> RedemptionState:
        """See `Aggregate.evolve`."""
        match event:
            case RedemptionRequested():
                return RedemptionState(status=Status.REQUESTED)
            case RedemptionConfirmed():
                return RedemptionState(status=Status.REDEEMED)
            case RedemptionRefused():
                return RedemptionState(status=Status.REFUSED)
