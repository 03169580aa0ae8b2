"""Durable stores by name: ours, and those that other packages add by an entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from projections.errors import NoSuchStore
from projections.stores.port import MakesStore, Place, ReadStore
from rayfold import Registry
from rayfold.stores import GROUP


def make(name: str, registry: Registry, place: Place) -> ReadStore:
    """Return a store of that name; nothing is connected yet.

    Raises:
        NoSuchStore: there is none, or its package does not provide one.
    """
    makes = imported(name)
    if name in _OURS:
        return makes(registry, place)
    try:
        return makes(registry, place)
    except Exception as error:  # third-party code may raise anything
        raise NoSuchStore(f"the store {name!r} cannot be made: {error}") from error


def imported(name: str) -> MakesStore:
    """Import the package of a store and return the function that makes the store.

    Raises:
        NoSuchStore: there is none, or its package cannot be imported.
    """
    if name in _OURS:
        return _OURS[name]()
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise NoSuchStore(f"no store is named {name!r}: is its package installed?")
    try:
        makes: MakesStore = found.load()
    except Exception as error:  # third-party code may raise anything
        raise NoSuchStore(f"the store {name!r} ({found.value}) does not load: {error}") from error
    return makes


def _postgres() -> MakesStore:
    from projections.postgres.store import PostgresStore

    return lambda registry, place: PostgresStore(registry, place.url)


def _redis() -> MakesStore:
    from projections.redis.store import RedisStore  # only needed if a view is kept there

    return RedisStore


def _dynamodb() -> MakesStore:
    try:
        from projections.dynamodb.store import DynamoStore
    except ImportError as error:
        raise NoSuchStore(
            f"views in dynamodb need one more package: pip install 'rayfold[dynamodb]' ({error})"
        ) from error

    return DynamoStore


_OURS: dict[str, Callable[[], MakesStore]] = {
    "postgres": _postgres,
    "redis": _redis,
    "dynamodb": _dynamodb,
}
