"""What a publication can meet."""

from __future__ import annotations


class NotDelivered(Exception):
    """A receiver did not take an event, or nobody knows whether it did: it is sent again.

    `retry_after` is in seconds, where the receiver said so.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Unpublishable(Exception):
    """The author's code breaks on an event, or what it gives cannot be written."""
