"""Coupons: `RAYFOLD_DOMAIN=examples.coupons rayfold up`.

A coupon may be redeemed so many times in all, and so many times by one customer: a rule over two
aggregates, in one decision (`redeeming.py`). `examples/coupons_by_saga` has it as a saga;
`loadtests/coupons.py` compares them.
"""
