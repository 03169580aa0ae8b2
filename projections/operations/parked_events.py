"""Operations on events that cannot be folded: list, replay, discard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eventstore.one_record import record_at
from eventstore.port import Log
from eventstore.records import as_written, metadata_of
from projections import discarded_events as discards
from projections.errors import UnknownTarget
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import Parked
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.spawning import IN_POSTGRES
from rayfold import Registry
from rayfold.keys import printable


class _Found(NamedTuple):
    store: str
    parked: Parked

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The row, view and store, or the stream, that is parked."""
        return self.store, self.parked.view, self.parked.key, self.parked.stream

    def plain(self) -> dict[str, Any]:
        """Return the entry as plain data, for JSON."""
        return {"store": self.store, **self.parked._asdict()}


class Placed(Protocol):
    """The actors of projections: see `Placements`."""

    @property
    def all(self) -> Sequence[ActorHandle]:
        """All actors of the read side."""
        ...

    def filling(self, view: str, key: str, store: str) -> Sequence[ActorHandle]:
        """Return the actors that keep the key's row in a durable store."""
        ...

    @property
    def sql_projectors(self) -> Mapping[str, ActorHandle]:
        """The projectors by custom SQL projection."""
        ...


class ParkedEventOperations:
    """Operates on all stores."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        placements: Placed,
        rebuild: Callable[[str], Awaitable[None]],
    ) -> None:
        """`rebuild` rebuilds a view in all of its stores, and returns when that is done."""
        self._registry = registry
        self._log = log
        self._placements = placements
        self._rebuild = rebuild

    async def parked(self, asked: Asked = EVERYTHING) -> list[dict[str, Any]]:
        """Return a page of the parked entries of every store.

        Raises:
            ActorUnavailable: a store does not answer.
        """
        return asked.page(each.plain() for each in await self._all(asked))

    async def event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """Return an event at which something is parked, as it is on the log.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        raw = await record_at(self._log, stream, revision)
        if raw is None:
            return None
        return {
            "type": raw.event_type,
            "stream": raw.stream,
            "revision": raw.revision,
            "position": raw.position,
            "data": as_written(raw).decode(errors="replace"),
            "metadata": metadata_of(raw),
        }

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """Replay what is parked in a view under `key`; everything if `key` is empty.

        Rows that a durable store has parked by key are replayed in place. For entries without a
        key, in memory, or of a stopped view, the view is rebuilt while the live one serves.

        Raises:
            UnknownTarget: nothing is parked there.
        """
        return await self._again(Asked(view, key), await self._find(view, key))

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """Discard the event that is parked under `key`, and fold on after it.

        `key` may be that of a row, or the name of a stream that is parked as a whole. The decision
        is recorded on the log, so every store and every rebuild follow it. Events that waited
        behind it are folded in order, once; another one that fails is parked in turn. If another
        store has already folded the event, the view is rebuilt: nothing else can remove its effect.

        Raises:
            UnknownTarget: nothing is parked there.
            StoreUnavailable: the decision may not be recorded; it is safe to try again.
        """
        found = await self._find(view, key, or_stream=True)
        for each in found:
            await discards.record(self._log, each.parked)
        return await self._again(Asked(view, key), found, whole=not self._is_everywhere(found))

    def _is_everywhere(self, found: list[_Found]) -> bool:
        """Return whether all stores of the view have parked the same events and folded none."""
        view = found[0].parked.view
        stores = {_store_of(each) for each in self._placements.all if view in each.views}
        events = {each.parked[1:5] for each in found}
        return len({(each.store, *each.parked[1:5]) for each in found}) == len(stores) * len(events)

    async def _again(
        self, asked: Asked, found: list[_Found], *, whole: bool = False
    ) -> list[dict[str, Any]]:
        """Replay each entry in place; or rebuild the `whole` view."""
        if not whole and all(self._can_fold_on(each) for each in found):
            await self._fold_on(found)
        else:
            await self._rebuild(asked.view)
        still = {each.place for each in await self._all(asked)}
        return [{**each.plain(), "parked": each.place in still} for each in found]

    async def _fold_on(self, found: Sequence[_Found]) -> None:
        """Make each actor replay what it has parked: one row, or all of them together."""
        keys: dict[tuple[ActorHandle, str], list[str]] = {}
        for each in found:
            part = self._part_of(each)
            keys.setdefault((part, each.parked.view), []).append(each.parked.key)
        for (part, view), some in keys.items():
            if len(some) == 1:
                await part.replay(view, some[0])
            else:
                await part.replay_all(view, some)

    def _part_of(self, found: _Found) -> ActorHandle:
        view, key = found.parked.view, found.parked.key
        if view in self._registry.projections:
            return self._placements.sql_projectors[view]
        filling = self._placements.filling(view, key, found.store)
        return min(filling, key=lambda each: not each.ready)

    def _can_fold_on(self, found: _Found) -> bool:
        if found.parked.view in self._registry.projections:
            return True
        stops = self._registry.views[found.parked.view].on_poison == "stop"
        return bool(found.parked.key) and found.store != "memory" and not stops

    async def _find(self, view: str, key: str, *, or_stream: bool = False) -> list[_Found]:
        found = [
            each
            for each in await self._all(Asked(view, key))
            if (
                key in (each.parked.key, printable(each.parked.key))
                or (key == "" and not or_stream)
                or (or_stream and key == each.parked.stream and not each.parked.key)
            )
        ]
        if not found or (or_stream and not key):
            raise UnknownTarget(f"nothing is parked in {view!r}" + (f" under {key!r}" * bool(key)))
        return found

    def _asked(self) -> Sequence[ActorHandle]:
        """Return all actors, but only one of the consumers that share a view, and so its table."""
        asked: dict[str, ActorHandle] = {}
        for each in self._placements.all:
            what = each.views[0] if each.kind == "competing" else each.name
            if what not in asked or (each.ready and not asked[what].ready):
                asked[what] = each
        return list(asked.values())

    async def _all(self, asked: Asked) -> list[_Found]:
        found: dict[_Found, None] = {}
        for handle in self._asked():
            if asked.view and asked.view not in handle.views:
                continue
            store = _store_of(handle)
            found |= {_Found(store, parked): None for parked in await handle.parked(asked)}
        return sorted(found, key=lambda each: (each.parked.position, each.store))


def _store_of(handle: ActorHandle) -> str:
    return "postgres" if handle.kind in IN_POSTGRES else handle.kind
