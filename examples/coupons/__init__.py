"""Coupons: `RAYFOLD_DOMAIN=examples.coupons rayfold up`.

The number of redemptions of a coupon is limited, both in total and for each customer: a rule over
two aggregates, in one decision (`redeeming.py`). `examples/coupons_by_saga` has the same rule as a
saga; `loadtests/coupons.py` compares the two.
"""
