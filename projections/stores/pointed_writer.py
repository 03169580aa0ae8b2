"""Shared parts of writers to generations with a pointer: which one to write, and when it is full.

A checkpoint ends in a mark that changes with each write. A writer that does not know the last mark
did not write it, and is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from projections.errors import Fenced
from projections.poison import Parked
from projections.stores.pointed_generations import PointedGenerations
from rayfold import ViewDefinition

Generations = TypeVar("Generations", bound=PointedGenerations[Any])
Kept = TypeVar("Kept")
"""One view's generation as the writer knows it."""


class PointedWriter(ABC, Generic[Generations, Kept]):
    """See `Writer`; `building` has generations being built, by view."""

    def __init__(
        self,
        generations: Generations,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        building: Mapping[str, str],
    ) -> None:
        self._generations = generations
        self._views = {view.name: view for view in views}
        self._partition = partition
        self._partitions = partitions
        self._building = dict(building)
        self._filling: set[str] = set()
        self.kept: dict[str, Kept] = {}
        self.positions: dict[str, int] = {}

    async def open(self) -> list[Parked]:
        """See `Writer.open`. A lost generation begins again here, from the log."""
        await self._check()
        self.kept, self.positions, self._filling = {}, {}, set()
        parked: list[Parked] = []
        for view in self._views.values():
            building = self._building.get(view.name)
            generation = building if building is not None else await self._live(view)
            await self._open(view, generation)
            parked += [each async for each in self._generations.parked(view, generation)]
        return parked

    async def _live(self, view: ViewDefinition) -> str:
        pointer = await self._generations.pointer(view)
        if not pointer.live:
            await self._generations.begin_again(view, "", self._partitions)
            pointer = await self._generations.pointer(view)
        if pointer.fingerprint != self._generations.fingerprint_of(view):
            raise Fenced(f"another release has built {view.name!r}")
        return pointer.live

    async def _lost(self, view: ViewDefinition, generation: str) -> Fenced:
        """Begin a live generation that has lost rows again; return the error to raise."""
        if view.name not in self._building:
            await self._generations.begin_again(view, generation, self._partitions)
        return Fenced(f"rows of {view.name!r} are lost")

    def _opened(self, view: ViewDefinition, kept: Kept, position: int, *, filling: bool) -> None:
        """Record which generation is written from now on."""
        self.kept[view.name] = kept
        self.positions[view.name] = position
        if filling:
            self._filling.add(view.name)

    async def caught_up(self) -> None:
        """See `Writer.caught_up`: from now on a lost generation answers again."""
        for view in list(self._filling):
            if not await self._filled(self.kept[view]):
                raise Fenced(f"another process has written {view!r}")
            self._filling.discard(view)

    async def _check(self) -> None:
        """Check whether the store can keep rows; by default, it can."""

    @abstractmethod
    async def _open(self, view: ViewDefinition, generation: str) -> None:
        """Read the checkpoint of a generation, and call `_opened`.

        Raises:
            Fenced: see `Writer.open`.
        """

    @abstractmethod
    async def _filled(self, kept: Kept) -> bool:
        """Let a full generation answer queries; return False if another process has written."""
