"""The durable stores of a stack: those that its views name and its settings define."""

from __future__ import annotations

from eventstore.port import Log
from projections.errors import NoSuchStore
from projections.settings import ReadSettings
from projections.stores import known
from projections.stores.reader import StoreReader
from projections.stores.supervisor import StoreSupervisor
from projections.supervision.placements import Placements
from rayfold import Registry


def stores_beside_postgres(registry: Registry, settings: ReadSettings) -> list[str]:
    """Return the stores beside Postgres and memory that views are kept in.

    Raises:
        NoSuchStore: no store of the stack keeps a view.
    """
    for view in registry.views.values():
        if not settings.stores_of(view):
            named = " or ".join(view.stores)
            raise NoSuchStore(
                f"the view {view.name!r} is kept in {named} alone, and this stack has none:"
                " give its URL"
            )
    used = {store for view in registry.views.values() for store in settings.stores_of(view)}
    return sorted(used - {"postgres", "memory"})


def readers_beside_postgres(
    registry: Registry, settings: ReadSettings, placements: Placements
) -> dict[str, StoreReader]:
    """Return readers for the stores other than memory and Postgres, which has its own.

    Raises:
        NoSuchStore: no store of the stack keeps a view, or a store cannot be loaded.
    """
    return {
        name: StoreReader(known.make(name, registry, settings.place_of(name)), placements)
        for name in stores_beside_postgres(registry, settings)
    }


def supervisors(
    registry: Registry, settings: ReadSettings, placements: Placements, log: Log
) -> dict[str, StoreSupervisor]:
    """Return the supervisors of all stores but memory: Postgres, which every stack has, and others.

    Raises:
        NoSuchStore: no store of the stack keeps a view, or a store cannot be loaded.
    """
    return {
        name: StoreSupervisor(
            known.make(name, registry, settings.place_of(name)),
            registry,
            settings,
            placements,
            log,
        )
        for name in ["postgres", *stores_beside_postgres(registry, settings)]
    }
