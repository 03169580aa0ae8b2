"""Redeeming, as one decision over a coupon and a customer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from examples.coupons.coupons import Coupon, CouponId, CouponRedeemed, CouponState, usable
from examples.coupons.customers import Customer, CustomerId, CustomerState, RedemptionNoted
from rayfold import Command, Decision, Rejected


class RedeemCoupon(Command, name="redeem-coupon"):
    """A customer redeems a coupon, once."""

    coupon_id: CouponId
    customer_id: CustomerId


class Concerned(TypedDict):
    """What the decision reads."""

    coupon: CouponState
    customer: CustomerState


class Redeem(Decision[RedeemCoupon], reads={"coupon": Coupon, "customer": Customer}):
    """Limits redemptions in total and for each customer; a barred customer may not redeem.

    The coupon leads, because many customers contend for one coupon.
    """

    @staticmethod
    def decide(
        states: Concerned, command: RedeemCoupon
    ) -> Iterable[CouponRedeemed | RedemptionNoted]:
        """See `Decision.decide`."""
        coupon, customer = states["coupon"], states["customer"]
        usable(coupon, command.coupon_id)
        if customer.barred:
            raise Rejected("customer-barred", f"customer {command.customer_id!r} is barred")
        if coupon.left <= 0:
            raise Rejected("coupon-used-up", f"coupon {command.coupon_id!r} is used up")
        if customer.redeemed.get(command.coupon_id, 0) >= coupon.each:
            raise Rejected(
                "customer-used-up",
                f"customer {command.customer_id!r} has redeemed {command.coupon_id!r} "
                f"{coupon.each} times already",
            )
        return [
            CouponRedeemed(coupon_id=command.coupon_id, customer_id=command.customer_id),
            RedemptionNoted(customer_id=command.customer_id, coupon_id=command.coupon_id),
        ]
