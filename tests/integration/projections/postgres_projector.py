"""A projector into Postgres, by its DSN."""

from __future__ import annotations

from typing import Any

from eventstore.port import Log
from projections.postgres.store import PostgresStore
from projections.stores.projector import Projector as StoreProjector
from rayfold import Registry


class Projector(StoreProjector):
    """See `projections.stores.projector`."""

    def __init__(self, registry: Registry, log: Log, dsn: str, *what: Any, **how: Any) -> None:
        super().__init__(registry, log, PostgresStore(registry, dsn), *what, **how)
