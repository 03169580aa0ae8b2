"""Running process managers: what they handle, what they decide, and what becomes of it."""
