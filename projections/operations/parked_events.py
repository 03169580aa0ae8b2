"""What operators do about events that cannot be folded: list, replay, discard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ray.exceptions import RayError

from eventstore.port import Log
from projections import discarded_events as discards
from projections.errors import ProjectionError, UnknownTarget
from projections.folding import Parked
from projections.supervision.actor_handle import ActorHandle
from rayfold import Registry


class _Found(NamedTuple):
    store: str
    parked: Parked

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Which row of which view in which store, or which stream."""
        return self.store, self.parked.view, self.parked.key, self.parked.stream

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"store": self.store, **self.parked._asdict()}


class Stores(Protocol):
    """The ways to fold again: see `ReadSide`."""

    @property
    def parts(self) -> Sequence[ActorHandle]:
        """All actors of the read side."""
        ...

    async def rebuilt(self, view: str) -> None:
        """Folds a view anew; returns when that is done."""
        ...

    async def fold_on(self, view: str, key: str) -> bool:
        """Tries again what Postgres keeps parked under a key."""
        ...


class ParkedEventOperations:
    """Over all stores."""

    def __init__(self, registry: Registry, log: Log, stores: Stores) -> None:
        self._registry = registry
        self._log = log
        self._stores = stores

    async def parked(self) -> list[dict[str, Any]]:
        """What stands still, in every store.

        Raises:
            ProjectionError: a part does not answer.
        """
        return [each.plain() for each in await self._all()]

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """Folds what is parked in a view under `key` again; all of it where `key` is empty.

        What Postgres has parked by a key is folded on from where it stands. What has no key,
        what is in memory, and a view that stopped, is found again by folding the view anew,
        while the present one serves.

        Raises:
            UnknownTarget: nothing of the kind is parked.
        """
        return await self._again(view, await self._find(view, key))

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """Decides to do without the event that is parked under `key`, and folds on behind it.

        `key` may be that of a row, or the name of a stream that is parked as a whole. The
        decision is on the log, so that every store and every rebuild keep to it. What waited
        behind the event is folded in, in order, once; another that breaks is parked in turn.

        Raises:
            UnknownTarget: nothing is parked there.
            StoreUnavailable: it may not have been decided; safe to do again.
        """
        found = await self._find(view, key, or_stream=True)
        for each in found:
            await discards.record(self._log, each.parked)
        return await self._again(view, found)

    async def _again(self, view: str, found: list[_Found]) -> list[dict[str, Any]]:
        if all(self._can_fold_on(each) for each in found):
            for each in found:
                await self._stores.fold_on(view, each.parked.key)
        else:
            await self._stores.rebuilt(view)
        still = {each.place for each in await self._all()}
        return [{**each.plain(), "parked": each.place in still} for each in found]

    def _can_fold_on(self, found: _Found) -> bool:
        if found.parked.view in self._registry.projections:
            return True
        stops = self._registry.views[found.parked.view].on_poison == "stop"
        return bool(found.parked.key) and found.store == "postgres" and not stops

    async def _find(self, view: str, key: str, *, or_stream: bool = False) -> list[_Found]:
        found = [
            each
            for each in await self._all()
            if each.parked.view == view
            and (
                key == each.parked.key
                or (key == "" and not or_stream)
                or (or_stream and key == each.parked.stream and not each.parked.key)
            )
        ]
        if not found or (or_stream and not key):
            raise UnknownTarget(f"nothing is parked in {view!r}" + (f" under {key!r}" * bool(key)))
        return found

    async def _all(self) -> list[_Found]:
        found: dict[_Found, None] = {}
        for part in self._stores.parts:
            try:
                answers = await part.actor.parked.remote()
            except RayError as error:
                raise ProjectionError(f"{part.name} does not answer: {error!r}") from error
            store = "memory" if part.kind == "memory" else "postgres"
            found |= {_Found(store, Parked(*fields)): None for fields in answers}
        return sorted(found, key=lambda each: (each.parked.position, each.store))
