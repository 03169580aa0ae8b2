"""The errors of publications."""

from __future__ import annotations


class NotDelivered(Exception):
    """A receiver did not accept an event, or that is unknown: it is sent again.

    `retry_after` is in seconds, if the receiver gave it.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Unpublishable(Exception):
    """The domain's code fails on an event, or its result cannot be written."""
