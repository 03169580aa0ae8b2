"""The cache of folded aggregates: which stay in memory, which are evicted, when snapshots are
taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Container, Coroutine, Iterator
from typing import Any

from actors.host.entity import Entity
from actors.host.snapshots import WORTH, save
from eventstore.errors import StoreUnavailable
from eventstore.port import Log

log = logging.getLogger(__name__)


class AggregateCache:
    """Entities by stream, least recently used first."""

    def __init__(self, log: Log | None, idle_timeout: float, capacity: int) -> None:
        """`log` is where snapshots are written; None means that no snapshots are taken."""
        self._log = log
        self._idle_timeout = idle_timeout
        self._capacity = capacity
        self._entities: OrderedDict[str, Entity] = OrderedDict()
        self._saving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._entities)

    def __contains__(self, stream: str) -> bool:
        return stream in self._entities

    def __iter__(self) -> Iterator[str]:
        return iter(self._entities)

    def add(self, entity: Entity) -> None:
        """Add an aggregate that was folded from its stream, or an optimistic one."""
        self._entities[entity.stream] = entity

    def drop(self, stream: str) -> None:
        """Remove an aggregate whose state can no longer be relied on."""
        self._entities.pop(stream, None)

    def is_behind(self, stream: str, revision: int) -> bool:
        """Return whether an aggregate is in memory at an older revision than this one."""
        entity = self._entities.get(stream)
        return entity is not None and entity.revision < revision

    def use(self, stream: str) -> Entity:
        """Return a cached aggregate and mark it as the most recently used."""
        entity = self._entities[stream]
        self._entities.move_to_end(stream)
        entity.used_at = time.monotonic()
        return entity

    def changed(self, entity: Entity) -> None:
        """Take a snapshot in the background if one is due."""
        due = entity.revision - entity.snapshot_revision >= entity.aggregate.snapshot_every
        if due and self._log is not None:
            # Encoded now, before the entity changes again; only the write is deferred.
            self._begun(self._save(self._log, entity))

    async def sweep(self, busy: Container[str], *, keep: float = 1.0) -> int:
        """Evict aggregates that are idle or over the limit, except `busy` ones; return how many.

        The limit is the capacity, or the share `keep` of the aggregates in memory if that is less.
        """
        oldest = time.monotonic() - self._idle_timeout
        most = min(self._capacity, int(len(self._entities) * keep))
        evicted: list[Entity] = []
        for stream, entity in list(self._entities.items()):
            if entity.used_at > oldest and len(self._entities) <= most:
                break
            if stream not in busy:
                evicted.append(self._entities.pop(stream))
        await self._saved_evicted(evicted)
        return len(evicted)

    async def evict_all(self) -> None:
        """Evict all aggregates; return once their snapshots are written."""
        evicted = list(self._entities.values())
        self._entities.clear()
        await self._saved_evicted(evicted)
        await self.saved()

    async def saved(self) -> None:
        """Wait until the snapshots that are in progress now are written."""
        await asyncio.gather(*self._saving, return_exceptions=True)

    async def _saved_evicted(self, evicted: list[Entity]) -> None:
        if self._log is not None:
            await self._begun(self._save_evicted(self._log, evicted))

    async def _save_evicted(self, log: Log, evicted: list[Entity]) -> None:
        for entity in evicted:
            if entity.revision - entity.snapshot_revision >= WORTH:
                await self._save(log, entity)

    def _begun(self, saving: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(saving)
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)
        return task

    async def _save(self, event_log: Log, entity: Entity) -> None:
        try:
            await save(event_log, entity)
        except StoreUnavailable as error:
            # Snapshots are only a cache: a later one will do.
            log.warning(
                "a snapshot was not written",
                extra={
                    "stream": entity.stream,
                    "revision": entity.revision,
                    "error": str(error),
                },
            )
