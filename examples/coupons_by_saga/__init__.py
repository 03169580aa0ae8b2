"""The rule of `examples/coupons` as a saga: `RAYFOLD_DOMAIN=examples.coupons_by_saga rayfold up`.

To compare with, not to copy: it needs a third aggregate, a compensation, and five appends for what
the decision does in one; meanwhile a coupon may seem used up that is not.
`loadtests/coupons.py` runs both.
"""
