"""Durable stores by name: ours, and those that other packages bring by an entry point."""

from __future__ import annotations

from importlib.metadata import entry_points

from projections.errors import NoSuchStore
from projections.stores.port import MakesStore, Place, ReadStore
from rayfold import Registry
from rayfold.stores import GROUP


def make(name: str, registry: Registry, place: Place) -> ReadStore:
    """Return a store of that name; nothing is connected yet.

    Raises:
        NoSuchStore: there is none, or its package does not give one.
    """
    ours = _OURS.get(name)
    if ours is not None:
        return ours(registry, place)
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise NoSuchStore(f"no store is named {name!r}: is its package installed?")
    try:
        makes: MakesStore = found.load()
        return makes(registry, place)
    except Exception as error:  # it is somebody's code
        raise NoSuchStore(f"the store {name!r} ({found.value}) does not load: {error}") from error


def _postgres(registry: Registry, place: Place) -> ReadStore:
    from projections.postgres.store import PostgresStore

    return PostgresStore(registry, place.url)


def _redis(registry: Registry, place: Place) -> ReadStore:
    from projections.redis.store import RedisStore  # whoever has no such view needs no client

    return RedisStore(registry, place)


def _dynamodb(registry: Registry, place: Place) -> ReadStore:
    try:
        from projections.dynamodb.store import DynamoStore
    except ImportError as error:
        raise NoSuchStore(
            f"views in dynamodb need one more package: pip install 'rayfold[dynamodb]' ({error})"
        ) from error

    return DynamoStore(registry, place)


_OURS: dict[str, MakesStore] = {"postgres": _postgres, "redis": _redis, "dynamodb": _dynamodb}
