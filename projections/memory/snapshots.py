"""Snapshots of views that are in memory alone, on a node's disk: a restart reads no old events.

There is a file for each view (`snapshot_file`). A new one is written beside the last one and then
renamed over it, so there is always a complete one. A file that cannot be read, or is of another
domain or log, is ignored: its content is folded from the log.

Rows are exported while events are folded, so they are not of one moment. That is sound, since each
row has its own position, and the rows removed meanwhile are written too: see `Replica.begin_copy`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from eventstore.port import Log
from projections.errors import QueryFailed, named
from projections.memory import snapshot_file
from projections.memory.bootstrap import Filled
from projections.memory.last_event import Found, look_for
from projections.memory.replica import Replica
from projections.memory.snapshot_file import LAYOUT, Head, Origin, Tail
from projections.memory.table import Table
from projections.partitions import AlreadyProjected
from rayfold import Registry
from rayfold.runtime.identity import Identity, domain_hash

log = logging.getLogger(__name__)

ROWS = 1_000
"""Rows per frame: some 10 milliseconds in which nothing is folded or answered."""

LEAST = 20_000
"""Events to fold after a snapshot at a start, which takes a second."""

REST = 60.0
"""Seconds between a snapshot's removal and the next one: erasures seldom come alone."""


def views_alone(registry: Registry, *, postgres: bool) -> list[str]:
    """Return the views in memory that no other store can restore."""
    return [
        view.name
        for view in registry.views.values()
        if "memory" in view.stores and not (postgres and "postgres" in view.stores)
    ]


class Snapshots:
    """The snapshot files of one replica's views. Other replicas on the node may hold the same
    views: the last file counts.

    A view has snapshots if no other store has its rows, and while none of it is parked.
    """

    def __init__(
        self,
        folder: Path,
        registry: Registry,
        identity: Identity,
        views: Iterable[str],
        owner: str,
        *,
        others: Iterable[str] = (),
    ) -> None:
        """`owner` is the replica's name; `views` are those that no other store can restore.

        `others` are such views of which other replicas on the node may write snapshots.
        """
        self._folder = folder
        self._registry = registry
        self._views = list(views)
        self._others = {*others}
        self._personal = {*registry.views_of_personal_data}
        self._own = LAYOUT, domain_hash(registry), identity.store, identity.stack
        self._stack = _short(identity.store, identity.stack)
        self._suffix = f"{_short(self._own[1])}.snapshot"
        self._owner = _short(owner)
        self._saved: dict[str, int] = {}
        """By view: the position of its file."""
        self._wanted_at: float | None = None

    def tidy(self) -> None:
        """Remove files that will not be read again, as rows may have been erased since. Blocks.

        These are files of views that have no snapshots any more, of other versions of the domain,
        and what this replica was writing when it was killed.
        """

        def is_old(path: Path) -> bool:
            view, _, suffix = path.name.split(".", 2)
            if view in self._views:
                return suffix == f"{self._suffix}.{self._owner}" or self._suffix not in suffix
            return view not in self._others

        _remove(self._folder, f"*.{self._stack}.*", is_old)

    async def load(self, event_log: Log, forgotten: str = "") -> list[Filled]:
        """Return the views that have snapshots of the current log.

        `forgotten` identifies the persons who are forgotten by now: a file may include one who was
        forgotten while this node was away.

        Raises:
            StoreUnavailable: it is unknown whether the log is the same.
        """
        found = []
        for view in self._views:
            try:
                head, table, tail = await asyncio.to_thread(self._read, view, forgotten)
            except FileNotFoundError:
                continue
            except Exception as error:  # any kind of damage
                why = {"view": view, "error": named(error)}
                log.warning("a snapshot is of no use: the log is folded", extra=why)
                self.forget(view)
                continue
            if await look_for(tail.last, event_log, self._registry.prefixes) is not Found.THERE:
                log.warning("a snapshot is of another log", extra={"view": view})
                self.forget(view)
                continue
            covered = AlreadyProjected([head.position], tail.gone)
            found.append(Filled(table, covered, [], tail.last))
            self._saved[view] = head.position
        return found

    def due(self, replica: Replica) -> bool:
        """Return whether enough was folded since the last snapshots to justify new ones.

        So a row is written no more often than an event is folded, which costs a tenth of that at
        most.
        """
        if not replica.caught_up.is_set():
            return False
        if self._wanted_at is not None and time.monotonic() >= self._wanted_at:
            return True
        rows = sum(len(replica.tables[view].rows) for view in self._views)
        return replica.since_snapshot >= max(rows, LEAST)

    async def save(self, replica: Replica, forgotten: str = "") -> None:
        """Write snapshots of the views that have changed, as far as the disk allows.

        `forgotten` identifies the persons whose data is no longer in the replica.
        """
        replica.since_snapshot = 0
        self._wanted_at = None
        for view in self._views:
            try:
                there = await asyncio.to_thread(self._path(view).exists)
                if there and replica.position() <= self._saved.get(view, 0):
                    continue
                # No `await` from here on: nothing is parked, and table and position are of one
                # moment. Events are folded again while a view is written.
                if any(each.view == view for each in replica.parked()):
                    # The last snapshot is from before that event, which is folded after it.
                    continue
                if replica.last is not None:
                    await self._write(view, replica, forgotten)
            except (OSError, QueryFailed) as error:
                why = {"view": view, "error": str(error)}
                log.warning("a snapshot cannot be written", extra=why)

    async def _write(self, view: str, replica: Replica, forgotten: str) -> None:
        table = replica.tables[view]
        keys = table.begin_copy()
        copying = True
        position = replica.position()
        head = Head(self._origin(view, forgotten), position, len(keys), ROWS)
        beside = self._folder / f"{self._path(view).name}.{self._owner}"
        try:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            with await asyncio.to_thread(snapshot_file.create, beside) as file:
                await asyncio.to_thread(snapshot_file.put, file, head)
                for at in range(0, len(keys), ROWS):
                    rows = table.export(keys[at : at + ROWS])
                    await asyncio.to_thread(snapshot_file.put, file, rows)
                gone, copying = table.end_copy(), False
                assert replica.last is not None, "it is beyond position 0"
                tail = Tail(gone, replica.last)
                await asyncio.to_thread(snapshot_file.put, file, tail)
                await asyncio.to_thread(snapshot_file.finish, file)
            await asyncio.to_thread(os.replace, beside, self._path(view))
            self._saved[view] = position
        except BaseException:
            if copying:
                table.end_copy()
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def forget(self, view: str) -> bool:
        """Remove a view's snapshots: it is to be folded again, or a row was erased.

        Return False if the disk did not allow that.
        """
        if view not in self._views:
            return True
        self._saved.pop(view, None)
        self._wanted_at = time.monotonic() + REST
        # This includes those of other versions of the domain, and one that another replica is
        # writing.
        return _remove(self._folder, f"{view}.{self._stack}.*")

    def forget_all(self) -> None:
        """Remove the snapshots of all views: their log is gone."""
        for view in self._views:
            self.forget(view)

    def _path(self, view: str) -> Path:
        return self._folder / f"{view}.{self._stack}.{self._suffix}"

    def _origin(self, view: str, forgotten: str) -> Origin:
        return Origin(*self._own, view, forgotten if view in self._personal else "")

    def _read(self, view: str, forgotten: str) -> tuple[Head, Table, Tail]:
        origin = self._origin(view, forgotten)
        return snapshot_file.read(self._path(view), self._registry.views[view], origin)


def _short(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def _remove(folder: Path, pattern: str, wanted: Callable[[Path], bool] = lambda _: True) -> bool:
    """Remove files of a folder; return False if the disk did not allow that for all."""
    errors = []
    try:
        for path in filter(wanted, folder.glob(pattern)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                errors.append(error)
    except OSError as error:
        errors.append(error)
    if errors:
        why = {"files": pattern, "error": str(errors[0])}
        log.warning("snapshots cannot be removed", extra=why)
    return not errors
