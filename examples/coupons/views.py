"""What readers see of coupons and customers, and where it is on the web."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from examples.coupons.coupons import (
    CouponId,
    CouponIssued,
    CouponRedeemed,
    CouponWithdrawn,
    IssueCoupon,
    WithdrawCoupon,
)
from examples.coupons.customers import BarCustomer, CustomerBarred, CustomerId, RedemptionNoted
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Query, Route, View, on, starts


class Coupons(View, name="coupons", key="coupon_id"):
    """A coupon, and how often it was redeemed."""

    coupon_id: str
    times: int
    each: int
    redeemed: int = 0
    withdrawn: bool = False

    @staticmethod
    @starts(CouponIssued)
    def issued(event: CouponIssued) -> Coupons:
        return Coupons(**event.model_dump())

    @staticmethod
    @on(CouponWithdrawn)
    def was_withdrawn(coupon: Coupons, event: CouponWithdrawn) -> Coupons:
        return coupon.replace(withdrawn=True)

    @staticmethod
    @on(CouponRedeemed)
    def was_redeemed(coupon: Coupons, event: CouponRedeemed) -> Coupons:
        return coupon.replace(redeemed=coupon.redeemed + 1)


class Customers(View, name="customers", key="customer_id"):
    """A customer, and how often each coupon was redeemed."""

    customer_id: str
    barred: bool = False
    redeemed: Mapping[str, int] = Field(default_factory=dict)

    @staticmethod
    @on(CustomerBarred)
    def was_barred(customer: Customers, event: CustomerBarred) -> Customers:
        return customer.replace(barred=True)

    @staticmethod
    @on(RedemptionNoted)
    def noted(customer: Customers, event: RedemptionNoted) -> Customers:
        times = customer.redeemed.get(event.coupon_id, 0) + 1
        return customer.replace(redeemed={**customer.redeemed, event.coupon_id: times})


class GetCoupon(Query, name="get-coupon", view=Coupons):
    """One coupon."""

    coupon_id: CouponId


class GetCustomer(Query, name="get-customer", view=Customers):
    """One customer."""

    customer_id: CustomerId


ROUTES = [
    Route("POST", "/coupons", IssueCoupon),
    Route("POST", "/coupons/{coupon_id}/withdraw", WithdrawCoupon),
    Route("POST", "/coupons/{coupon_id}/redemptions", RedeemCoupon),
    Route("GET", "/coupons/{coupon_id}", GetCoupon),
    Route("POST", "/customers/{customer_id}/bar", BarCustomer),
    Route("GET", "/customers/{customer_id}", GetCustomer),
]
