"""Accounts, and the money on them."""
