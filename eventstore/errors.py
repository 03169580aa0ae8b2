"""What can go wrong between us and the event store."""

from __future__ import annotations

from rayfold.errors import RayfoldError


class StoreError(RayfoldError):
    """The root of the store's errors."""


class StoreUnavailable(StoreError):
    """The store does not answer. What was asked may or may not have happened: fold again."""
