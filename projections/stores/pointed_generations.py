"""Generations with a *pointer* to the live one, which is moved atomically.

For stores that cannot rename tables. Stores differ in how a generation is begun and removed, how
writers are paused (`hold`), and how the pointer moves.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from projections.errors import ProjectionError, ReadStoreUnavailable
from projections.newly_parked import Comparison, NewlyParked
from projections.poison import Parked
from projections.stores.port import Reached
from rayfold import ViewDefinition

log = logging.getLogger(__name__)

HELD = 90_000
"""Milliseconds after which paused writers go on if a switch was not finished."""

Hold = TypeVar("Hold")
"""What a store records about paused writers."""


class Pointer(NamedTuple):
    """The live generation of a view, and its definition; empty if there is none."""

    live: str
    fingerprint: str
    partitions: int


NONE = Pointer("", "", 0)


class PointedGenerations(ABC, Generic[Hold]):
    """See `Generations`; `store` is the store's name."""

    store: str

    @abstractmethod
    def fingerprint_of(self, view: ViewDefinition) -> str:
        """Return a text that changes whenever existing generations become unusable."""

    @abstractmethod
    async def pointer(self, view: ViewDefinition) -> Pointer:
        """Return a view's pointer; `NONE` if there is none."""

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """See `Generations.prepare`."""
        await self._check()
        stale = []
        for view in views:
            pointer = await self.pointer(view)
            for left in await self._unfinished(view):
                await self.discard(view, left)
            if not pointer.live:
                # A first start: nothing was lost.
                await self._begin_live(view, "", partitions[view.name])
                continue
            if pointer.fingerprint != self.fingerprint_of(view):
                stale.append(view)
            await self.partition([view], partitions[view.name])
        return stale

    async def begin_again(self, view: ViewDefinition, lost: str, partitions: int) -> None:
        """Replace a generation that is lost, or never existed, by an empty one.

        It answers no queries until it has reached the log's end. If another process was faster,
        nothing changes.
        """
        if await self._begin_live(view, lost, partitions):
            log.warning(
                "a store has no rows of a view: they are folded",
                extra={"store": self.store, "view": view.name},
            )
            if lost:
                await self.discard(view, lost)

    async def _begin_live(self, view: ViewDefinition, lost: str, partitions: int) -> bool:
        """Make a new generation live; return whether no other process was faster."""
        new = await self._begin(view, partitions, filling=True)
        if not await self._point(view, lost, new, partitions):
            await self.discard(view, new)
            return False
        return True

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """See `Generations.partition`."""
        for view in views:
            pointer = await self.pointer(view)
            if pointer.live and await self._partitions(view, pointer) != number:
                await self._cut(view, pointer, number)

    async def begin(self, view: ViewDefinition) -> str:
        """See `Generations.begin`."""
        return await self._begin(view, 1, filling=False)

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do nothing: lists are updated as rows are written."""

    async def furthest(self, view: ViewDefinition) -> int:
        """See `Generations.furthest`."""
        pointer = await self.pointer(view)
        return max(await self._positions(view, pointer.live), default=0)

    async def newly_parked(self, view: ViewDefinition, generation: str) -> NewlyParked | None:
        """See `Generations.newly_parked`."""
        live = (await self.pointer(view)).live
        compared = Comparison(min(await self._positions(view, live), default=0))
        async for each in self.parked(view, live):
            compared.live(each)
        async for each in self.parked(view, generation):
            compared.built(each)
        return compared.newly_parked

    @abstractmethod
    def parked(self, view: ViewDefinition, generation: str) -> AsyncIterator[Parked]:
        """Yield what is parked in a generation; nothing if there is no such generation."""

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """See `Generations.switch`."""
        pointer = await self.pointer(view)
        if not pointer.live:
            raise ProjectionError(f"no generation of {view.name!r} is live")
        hold, positions = await self._hold(view, pointer.live)
        furthest = max(positions, default=0)
        try:
            enough = await reached(furthest)
            if enough is None:
                raise ProjectionError(f"the new generation of {view.name!r} did not catch up")
            partitions = await self._partitions(view, pointer)
            pointer = pointer._replace(partitions=partitions)
            await self._replace(view, pointer, generation, enough, hold)
        except BaseException:
            with suppress(ReadStoreUnavailable):  # then the pause ends by itself
                await self._release(view, pointer.live, hold)
            raise
        await self._retire(view, generation, pointer.live)

    @abstractmethod
    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """See `Generations.discard`."""

    @abstractmethod
    async def _check(self) -> None:
        """Check whether the store can keep rows, and create what it needs for that."""

    @abstractmethod
    async def _unfinished(self, view: ViewDefinition) -> Collection[str]:
        """Return generations that are being built, and old live ones that were not removed."""

    @abstractmethod
    async def _begin(self, view: ViewDefinition, partitions: int, *, filling: bool) -> str:
        """Create an empty generation; one that is `filling` answers nothing until it caught up."""

    @abstractmethod
    async def _point(self, view: ViewDefinition, old: str, new: str, partitions: int) -> bool:
        """Move the pointer from one generation to another; return False if it pointed elsewhere.

        The new generation has the view's current definition, and is no longer being built.
        """

    async def _partitions(self, view: ViewDefinition, pointer: Pointer) -> int:
        """Return the number of live partitions, also if a change of it was not completed."""
        return pointer.partitions

    @abstractmethod
    async def _cut(self, view: ViewDefinition, pointer: Pointer, number: int) -> None:
        """Divide the live keys anew, and record that in the pointer."""

    @abstractmethod
    async def _positions(self, view: ViewDefinition, generation: str) -> Collection[int]:
        """Return the checkpoints of a generation; none if there is no such generation."""

    @abstractmethod
    async def _hold(self, view: ViewDefinition, live: str) -> tuple[Hold, Collection[int]]:
        """Pause writers, for a limited time; return the checkpoints, which then do not change."""

    @abstractmethod
    async def _replace(
        self, view: ViewDefinition, pointer: Pointer, generation: str, furthest: int, hold: Hold
    ) -> None:
        """Make a generation live that has reached `furthest`, with the old one's partitions.

        Raises:
            ProjectionError: it is gone, or another process was faster; nothing has changed.
        """

    @abstractmethod
    async def _release(self, view: ViewDefinition, live: str, hold: Hold) -> None:
        """End the pause of writers."""

    @abstractmethod
    async def _retire(self, view: ViewDefinition, generation: str, old: str) -> None:
        """Remove the old live generation, at once or later."""
