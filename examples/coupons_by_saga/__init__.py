"""The rule of `examples/coupons` as a saga: `RAYFOLD_DOMAIN=examples.coupons_by_saga rayfold up`.

It is for comparison, not to copy: it needs a third aggregate, a compensation, and five appends,
where the decision needs one. Meanwhile a coupon may seem used up although it is not.
`loadtests/coupons.py` runs both.
"""
