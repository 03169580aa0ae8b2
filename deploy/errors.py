"""What keeps the stack from starting, in one line for whoever started it."""

from __future__ import annotations


class StartError(Exception):
    """Nothing is left running; the message says what to do."""
