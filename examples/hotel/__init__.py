"""A hotel: `RAYFOLD_DOMAIN=examples.hotel rayfold up`.

A stay takes a room in each of its nights, or in none. Each night is an aggregate of its own, and
how many of them a decision reads depends on its command (`booking.py`).
"""
