"""Inventory: what is in stock, and how much of it is reserved."""
