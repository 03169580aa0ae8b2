"""What is in `rayfold.runtime.postgres` now; for whoever still imports it from here."""

from rayfold.runtime.postgres import (
    FAILURES,
    SILENCE,
    Connection,
    connect,
    create_pool,
    is_pooled,
)

__all__ = ["FAILURES", "SILENCE", "Connection", "connect", "create_pool", "is_pooled"]
