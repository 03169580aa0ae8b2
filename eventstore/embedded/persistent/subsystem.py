"""All groups of a store: kept in a table, loaded at start, ticking once a second."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.errors import group_exists, group_missing
from eventstore.embedded.persistent.group import Group
from eventstore.embedded.persistent.settings import GroupSettings
from eventstore.embedded.persistent.writes import RemoveGroup, SaveGroup
from eventstore.embedded.storage.event import Event
from eventstore.embedded.storage.store import Store

log = logging.getLogger(__name__)

_TICK = 0.5
"""Seconds between looks at timeouts. The real server looks once a second."""

_POSITION = re.compile(r"C:(\d+)/P:\d+")


class Groups:
    """Registry of groups by stream and name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: dict[tuple[str, str], Group] = {}
        self._changes = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Load what is in the table and begin to tick."""
        self._load()
        self._store.listen(self._committed)
        self._ticking = asyncio.create_task(self._tick())

    def _load(self) -> None:
        for (text,) in self._store.log.query("SELECT settings FROM groups"):
            self._open(GroupSettings.from_json(text))

    def _open(self, settings: GroupSettings) -> Group:
        group = Group(self._store.log, self._store.submit, settings, self._checkpoint(settings))
        self._groups[settings.stream, settings.name] = group
        return group

    def _checkpoint(self, settings: GroupSettings) -> int | None:
        log = self._store.log
        info = log.info(settings.checkpoint_stream)
        if not info.exists:
            return None
        found = log.stream_events(info.sid, info.last, info.last, 1)
        if not found or info.last < log.window(info)[0]:
            return None
        text = str(json.loads(found[0].record().data))
        position = _POSITION.fullmatch(text)
        return int(position[1]) if position else int(text)

    def _committed(self, events: list[Event]) -> None:
        self._each(lambda group: group.committed(events))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._each(lambda group: group.tick(time.monotonic()))

    def _each(self, look: Callable[[Group], None]) -> None:
        """Call `look` for every group. If it raises, because the disk cannot be read, say, it is
        tried again soon. That affects neither other groups nor writers that wait for an answer."""
        for group in list(self._groups.values()):
            try:
                look(group)
            except Exception:
                about = {"stream": group.settings.stream, "group": group.settings.name}
                log.exception("a consumer group broke", extra=about)

    async def stop(self) -> None:
        """End all consumers; progress is saved with the store's last commit."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait((self._ticking,))
        for group in self._groups.values():
            group.flush()
            group.close()

    def get(self, stream: str, name: str) -> Group:
        """Return a group; raise NOT_FOUND if there is none."""
        group = self._groups.get((stream, name))
        if group is None:
            raise group_missing(stream, name)
        return group

    def all(self) -> list[Group]:
        """Return every group."""
        return list(self._groups.values())

    async def create(self, settings: GroupSettings) -> None:
        """Create a group; answer when its configuration is on disk."""
        async with self._changes:
            if (settings.stream, settings.name) in self._groups:
                raise group_exists(settings.stream, settings.name)
            await self._store.write(SaveGroup(settings), type(None))
            self._open(settings)

    async def update(self, settings: GroupSettings) -> None:
        """Replace the settings; consumers are dropped and come back."""
        async with self._changes:
            group = self.get(settings.stream, settings.name)
            group.flush()
            await self._store.write(SaveGroup(settings), type(None))
            group.close()
            self._open(settings)

    async def delete(self, stream: str, name: str) -> None:
        """Delete a group, its checkpoint and its parked messages; its consumers are dropped."""
        async with self._changes:
            group = self.get(stream, name)
            del self._groups[stream, name]
            group.close()
            try:
                await self._store.write(RemoveGroup(group.settings), type(None))
            except BaseException:
                # It may still be on disk with its checkpoint, so it must be possible to retry.
                self._open(group.settings)
                raise

    async def restart(self) -> None:
        """Drop all consumers and load everything again."""
        async with self._changes:
            for group in self._groups.values():
                group.flush()
                group.close()
            try:
                # The barrier returns after all queued writes: then checkpoints are on disk.
                await self._store.barrier()
            finally:  # in any case, because a closed group serves no consumers
                self._groups.clear()
                self._load()

    def check_room(self, stream: str, name: str) -> None:
        """Raise what ``join`` would raise, before the subscription is confirmed."""
        self.get(stream, name).check_room()

    def join(self, stream: str, name: str, consumer: Consumer) -> Group:
        """Connect a consumer."""
        group = self.get(stream, name)
        group.join(consumer)
        return group
