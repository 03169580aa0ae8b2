"""What happens when a view's or a projection's own code breaks on an event."""

from __future__ import annotations

from enum import StrEnum


class OnPoison(StrEnum):
    """The policies. Each kind of projection supports some of them, and says which."""

    PARK = "park"
    """The event's row waits, with what comes after it for that row; all others go on."""

    STOP = "stop"
    """The whole view or projection waits at the event."""

    SKIP = "skip"
    """The event counts for nothing in this projection, and is kept for operators."""
