"""What happens when a view's or a projection's own code fails on an event."""

from __future__ import annotations

from enum import StrEnum


class OnPoison(StrEnum):
    """The policies. Each kind of projection documents which of them it supports."""

    PARK = "park"
    """The event's row is parked with later events for that row; all other rows go on."""

    STOP = "stop"
    """The whole view or projection stops at the event."""

    SKIP = "skip"
    """The event has no effect in this projection, and is kept for operators."""
