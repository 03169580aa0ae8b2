"""The rules of coupons, without any infrastructure."""

from __future__ import annotations

import pytest

from examples.coupons.coupons import CouponIssued, CouponRedeemed, CouponWithdrawn
from examples.coupons.customers import CustomerBarred, RedemptionNoted
from examples.coupons.redeeming import Redeem, RedeemCoupon
from rayfold import Event
from rayfold.testing import given, rows_of

ISSUED = CouponIssued(coupon_id="c", times=3, each=2)
REDEEM = RedeemCoupon(coupon_id="c", customer_id="ada")
REDEEMED = CouponRedeemed(coupon_id="c", customer_id="ada")
NOTED = RedemptionNoted(customer_id="ada", coupon_id="c")


def test_redeeming_is_recorded_by_both_aggregates() -> None:
    after = given(Redeem, ISSUED).when(REDEEM).then(REDEEMED, NOTED)
    assert after["coupon"].left == 2
    assert after["customer"].redeemed == {"c": 1}


@pytest.mark.parametrize(
    ("past", "rule"),
    [
        ((ISSUED, REDEEMED, NOTED, REDEEMED, NOTED), "customer-used-up"),
        ((ISSUED, *[CouponRedeemed(coupon_id="c", customer_id="eve")] * 3), "coupon-used-up"),
        ((ISSUED, CouponWithdrawn(coupon_id="c")), "coupon-withdrawn"),
        ((ISSUED, CustomerBarred(customer_id="ada")), "customer-barred"),
    ],
)
def test_a_rule_of_either_aggregate_can_refuse(past: tuple[Event, ...], rule: str) -> None:
    given(Redeem, *past).when(REDEEM).then_rejected(rule)


def test_events_of_other_aggregates_do_not_count() -> None:
    others = (
        CouponIssued(coupon_id="d", times=1, each=1),
        CouponWithdrawn(coupon_id="d"),
        CustomerBarred(customer_id="eve"),
    )
    given(Redeem, ISSUED, *others).when(REDEEM).then(REDEEMED, NOTED)


def test_a_coupon_that_was_never_issued_is_not_found() -> None:
    given(Redeem).when(REDEEM).then_not_found()


def test_views_count_redemptions() -> None:
    from examples.coupons.views import Coupons, Customers

    [coupon] = rows_of(Coupons, ISSUED, REDEEMED, NOTED, REDEEMED, NOTED).values()
    assert (coupon.redeemed, coupon.withdrawn) == (2, False)
    [customer] = rows_of(Customers, NOTED, NOTED).values()
    assert customer.redeemed == {"c": 2}
