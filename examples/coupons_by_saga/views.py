"""What readers see of redemptions, and where they are on the web."""

from __future__ import annotations

from examples.coupons_by_saga.aggregates import (
    IssueCoupon,
    RedemptionConfirmed,
    RedemptionRefused,
    RedemptionRequested,
    RequestRedemption,
    Status,
)
from rayfold import Query, Route, View, on, starts


class Redemptions(View, name="redemptions", key="redemption_id"):
    """A redemption and its outcome."""

    redemption_id: str
    coupon_id: str
    customer_id: str
    status: Status = Status.REQUESTED
    rule: str = ""

    @staticmethod
    @starts(RedemptionRequested)
    def requested(event: RedemptionRequested) -> Redemptions:
        return Redemptions(**event.model_dump())

    @staticmethod
    @on(RedemptionConfirmed)
    def confirmed(redemption: Redemptions, event: RedemptionConfirmed) -> Redemptions:
        return redemption.replace(status=Status.REDEEMED)

    @staticmethod
    @on(RedemptionRefused)
    def refused(redemption: Redemptions, event: RedemptionRefused) -> Redemptions:
        return redemption.replace(status=Status.REFUSED, rule=event.rule)


class GetRedemption(Query, name="get-redemption", view=Redemptions):
    """One redemption."""

    redemption_id: str


ROUTES = [
    Route("POST", "/coupons", IssueCoupon),
    Route("POST", "/redemptions", RequestRedemption, derived_id="redemption_id"),
    Route("GET", "/redemptions/{redemption_id}", GetRedemption),
]
