"""What happens when the code of a view or a projection fails on an event."""

from __future__ import annotations

from enum import StrEnum


class OnPoison(StrEnum):
    """The policies. Each kind of projection supports some of them, and says which."""

    PARK = "park"
    """The row waits at the event, with later events of that row; other rows are not affected."""

    STOP = "stop"
    """The whole view or projection waits at the event."""

    SKIP = "skip"
    """The projection ignores the event, which is kept for operators."""
