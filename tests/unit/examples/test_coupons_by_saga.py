"""The rule of coupons as a saga: it holds as well, in more steps."""

from __future__ import annotations

from examples.coupons_by_saga.aggregates import (
    Coupon,
    Customer,
    IssueCoupon,
    Redemption,
    RequestRedemption,
    Status,
)
from examples.coupons_by_saga.saga import Redeeming
from rayfold import Registry
from rayfold.testing import Story


def test_a_coupon_has_a_limit_in_total_and_a_limit_for_each_customer() -> None:
    assert Registry.load("examples.coupons_by_saga").processes.keys() == {"redeeming"}
    story = Story(Coupon, Customer, Redemption, Redeeming)
    story.send(IssueCoupon(coupon_id="c", times=4, each=2))
    wanted = ["ada", "ada", "ada", "eve", "bob", "zoe"]
    for number, customer in enumerate(wanted):
        story.send(
            RequestRedemption(redemption_id=f"r{number}", coupon_id="c", customer_id=customer)
        )
    found = [story.state_of(Redemption, f"r{number}").status for number in range(6)]
    done, refused = Status.REDEEMED, Status.REFUSED
    assert found == [done, done, refused, done, done, refused]
    assert story.state_of(Coupon, "c").left == 0
    assert [refusal.rule for _, refusal in story.refusals] == ["customer-used-up", "coupon-used-up"]
