"""The saga: takes one off the coupon, notes it for the customer, and puts it back if that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from examples.coupons_by_saga.aggregates import (
    ConfirmRedemption,
    HasBeenPutBack,
    NoteRedemption,
    PutBack,
    RedemptionNoted,
    RedemptionRequested,
    RefuseRedemption,
    TakenOff,
    TakeOff,
)
from rayfold import (
    CommandRejected,
    Complete,
    Message,
    ProcessManager,
    Send,
    Step,
    on,
    on_rejected,
    starts,
)


class RedeemingState(Message):
    """Which redemption this is, by which customer and of which coupon."""

    redemption_id: str = ""
    coupon_id: str = ""
    customer_id: str = ""


Seen = RedemptionRequested | TakenOff | RedemptionNoted | HasBeenPutBack


class Redeeming(
    ProcessManager[RedeemingState, Seen],
    name="redeeming",
    key="redemption_id",
    initial=RedeemingState(),
):
    """The process of one redemption."""

    @staticmethod
    def evolve(state: RedeemingState, happened: Any) -> RedeemingState:
        """See `ProcessManager.evolve`."""
        if isinstance(happened, RedemptionRequested):
            return RedeemingState(**happened.model_dump())
        return state

    @staticmethod
    @starts(RedemptionRequested)
    def requested(state: RedeemingState, event: RedemptionRequested) -> Iterator[Step]:
        yield Send(TakeOff(coupon_id=event.coupon_id, redemption_id=event.redemption_id))

    @staticmethod
    @on(TakenOff)
    def taken_off(state: RedeemingState, event: TakenOff) -> Iterator[Step]:
        yield Send(NoteRedemption(**state.model_dump(), most=event.each))

    @staticmethod
    @on(RedemptionNoted)
    def noted(state: RedeemingState, event: RedemptionNoted) -> Iterator[Step]:
        yield Send(ConfirmRedemption(redemption_id=state.redemption_id))
        yield Complete()

    @staticmethod
    @on_rejected(TakeOff)
    def used_up(state: RedeemingState, rejected: CommandRejected[TakeOff]) -> Iterator[Step]:
        yield Send(RefuseRedemption(redemption_id=state.redemption_id, rule=rejected.rule))
        yield Complete()

    @staticmethod
    @on_rejected(NoteRedemption)
    def too_often(
        state: RedeemingState, rejected: CommandRejected[NoteRedemption]
    ) -> Iterator[Step]:
        yield Send(PutBack(coupon_id=state.coupon_id, redemption_id=state.redemption_id))
        yield Send(RefuseRedemption(redemption_id=state.redemption_id, rule=rejected.rule))
        yield Complete()
