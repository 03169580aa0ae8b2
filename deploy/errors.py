"""Errors that keep the stack from starting, each reported in one line."""

from __future__ import annotations

import sys

from rayfold.foreign_text import shown


class StartError(Exception):
    """Nothing is left running; the message says what to do. `reasons` has it line by line."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "\n".join(self.reasons)


def tell(error: StartError) -> None:
    """Write each reason to standard error, as a line."""
    for reason in error.reasons:
        sys.stderr.write(f"rayfold: {shown(' '.join(reason.split()))}\n")
    sys.stderr.flush()
