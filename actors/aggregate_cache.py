"""The aggregates that are in memory: which stay, which go, and when they are snapshotted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Container

from actors.entity import AggregateType, Entity
from actors.snapshots import WORTH, save
from eventstore.errors import StoreUnavailable
from eventstore.port import Log

log = logging.getLogger(__name__)


class AggregateCache:
    """Entities by stream, the least recently used first."""

    def __init__(self, store: Log, idle: float, most: int) -> None:
        self._store = store
        self._idle = idle
        self._most = most
        self._entities: OrderedDict[str, Entity] = OrderedDict()
        self._saving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._entities)

    def __contains__(self, stream: str) -> bool:
        return stream in self._entities

    def put(self, stream: str, aggregate: AggregateType) -> None:
        """An aggregate of which is supposed that it has no stream yet."""
        self._entities[stream] = Entity(aggregate, stream, guessed=True)

    def add(self, entity: Entity) -> None:
        """An aggregate that was folded."""
        self._entities[entity.stream] = entity

    def drop(self, stream: str) -> None:
        """Forgets one, as it cannot be relied on."""
        self._entities.pop(stream, None)

    def use(self, stream: str) -> Entity:
        """An aggregate that is in memory; it is now the most recently used."""
        entity = self._entities[stream]
        self._entities.move_to_end(stream)
        entity.touched = time.monotonic()
        return entity

    def changed(self, entity: Entity) -> None:
        """Takes a snapshot in the background if it is due."""
        if entity.revision - entity.snapshot_revision >= entity.aggregate.snapshot_every:
            # Encoded at once, before the entity changes again; only the writing waits.
            task = asyncio.create_task(self._save(entity))
            self._saving.add(task)
            task.add_done_callback(self._saving.discard)

    async def sweep(self, busy: Container[str], *, keep: float = 1.0) -> int:
        """Lets those go that are idle or too many, except `busy` ones; gives their number.

        Too many is more than the bound, or more than the share `keep` of what is there.
        """
        oldest = time.monotonic() - self._idle
        most = min(self._most, int(len(self._entities) * keep))
        gone: list[Entity] = []
        for stream, entity in list(self._entities.items()):
            if entity.touched > oldest and len(self._entities) <= most:
                break
            if stream not in busy:
                gone.append(self._entities.pop(stream))
        await self._farewell(gone)
        return len(gone)

    async def evict_all(self) -> None:
        """Lets all go."""
        gone = list(self._entities.values())
        self._entities.clear()
        await self._farewell(gone)
        while self._saving:
            await asyncio.gather(*list(self._saving), return_exceptions=True)

    async def _farewell(self, gone: list[Entity]) -> None:
        for entity in gone:
            if entity.revision - entity.snapshot_revision >= WORTH:
                await self._save(entity)

    async def _save(self, entity: Entity) -> None:
        try:
            await save(self._store, entity)
        except StoreUnavailable as error:
            # A cache: the next one will do.
            log.warning("no snapshot of %s: %s", entity.stream, error)
