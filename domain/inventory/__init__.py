"""Inventory: what is in stock, and what of it is spoken for."""
