"""A memory replica in a process of its own: the Ray shell around `Replica`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError

from eventstore.errors import StoreUnavailable
from eventstore.personal.forgotten import Forgotten, forgotten_by_now
from eventstore.personal.opening import open_log
from projections.errors import QueryFailed, named
from projections.memory import bootstrap as from_postgres
from projections.memory.last_event import LastEvent, LogChanged
from projections.memory.replica import COOL, RETRY, Replica
from projections.memory.snapshots import Snapshots, views_alone
from projections.memory.table import Copied, Moment, Table
from projections.parked_pages import Asked
from projections.poison import Parked
from projections.row_query import RowQuery, RowResult
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status
from rayfold.runtime.rpc import Address, RpcServer
from rayfold.runtime.together import together
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

COPIED = 10_000
"""Rows that are sent together to a new replica: some megabytes, through the object store."""

LAST_SNAPSHOT = 3.0
"""Seconds for a snapshot when the replica is ended: less than `STOP`, which the caller allows."""

ASKED = 3.0
"""Seconds after which a process's report of its open queries is outdated."""

SNAPSHOT = 2_000
"""Rows of a snapshot that are returned at a time: some 10 milliseconds."""

COPIES = 8
"""Copies and snapshots that may run at a time; one that is dropped must begin again."""

COPY_IDLE = 60.0
"""Seconds without a request after which a copying peer is considered gone."""


@dataclass(slots=True)
class _Copy:
    """A copy in progress: by view, the keys of these tables."""

    keys: dict[str, list[str]]
    tables: dict[str, Table]
    at: float = field(default_factory=time.monotonic)
    """The time of the last request."""

    def end(self) -> dict[str, dict[str, int]]:
        """Return the keys of rows that were removed meanwhile, and stop recording them."""
        return {view: table.end_copy() for view, table in self.tables.items()}


@dataclass(slots=True)
class _Snapshot:
    """A view's rows as of one moment, read piece by piece for verification."""

    table: Table
    moment: Moment
    at: float = field(default_factory=time.monotonic)
    """The time of the last request."""

    def end(self) -> None:
        """Release the rows."""
        self.table.end(self.moment)


class ReplicaActor:
    """Runs as a Ray actor. A restarted one is empty until `start` is called again."""

    def __init__(
        self,
        name: str,
        domain: str,
        views: list[str],
        eventstore: str,
        postgres: str | None,
        identity: Identity,
        snapshots: str = "",
    ) -> None:
        """`postgres` has some of the views too; without it, they are folded from the log alone.

        `snapshots` is a folder on the node for views that no other store has; without it there are
        no snapshots.
        """
        begin_part(name)
        self._views = views
        self._incarnation = f"{name}:{uuid4().hex[:12]}"
        self._postgres = postgres
        self._registry = load_domain(domain, identity.tenants)
        self._log = open_log(eventstore, self._registry, postgres)
        identity.check_domain(self._registry)
        self._membership = Membership(identity, self._log, None)
        self._replica = Replica(self._registry, views, self._log)
        self._snapshots: Snapshots | None = None
        if snapshots:
            alone = views_alone(self._registry, postgres=bool(postgres))
            mine = [view for view in views if view in alone]
            self._snapshots = Snapshots(
                Path(snapshots), self._registry, identity, mine, name, others=alone
            )
        self._snapshotting = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._copies: dict[str, _Copy | _Snapshot] = {}
        self._started = False
        self._has_rows = asyncio.Event()
        """Set once it has the rows that it copies or reads from Postgres, and folds on from
        there.
        """
        self._error = ""
        """Why it began again; reported until it has reached the log's end."""
        self._asked: dict[str, tuple[float, dict[str, int]]] = {}
        """By process: the time of its last report, and its open queries by view."""
        self._server = RpcServer(self._ask)
        collect_rarely()

    async def start(self, peer: Any | None) -> None:
        """Follow the log: from the position of `peer`, another replica, or else of Postgres.

        Returns at once. If the peer goes away, or following the log fails, `started` in the status
        is false again.
        """
        if not self._started:
            self._started = True
            self._following = asyncio.create_task(self._follow(peer))

    async def _follow(self, peer: Any | None) -> None:
        """Follow the log; if that ends, become like a restarted replica: empty, not started."""
        try:
            await self._begin(peer)
        except* LogChanged as error:
            self._error = named(error.exceptions[0])
            log.warning("a replica begins again", extra={"error": self._error})
            if self._snapshots is not None:
                self._snapshots.forget_all()
        except* Exception as error:  # a bug of ours: the rows are no longer current
            self._error = named(error.exceptions[0])
            log.exception("a replica begins again")
        self._has_rows.clear()
        self._replica = Replica(self._registry, self._views, self._log)
        self._copies.clear()
        self._started = False

    async def _begin(self, peer: Any | None) -> None:
        await self._membership.confirmed()
        if self._snapshots is not None:
            await asyncio.to_thread(self._snapshots.tidy)
        forgotten = await self._forgotten()
        if not forgotten.is_settled:
            # Other copies may include data of a person who is being forgotten, which must not get
            # here: rows that were rebuilt without that person are not rebuilt again for this
            # replica.
            log.warning("the log is folded instead of kept rows: a person is being forgotten")
            if self._snapshots is not None:
                self._snapshots.forget_all()
        elif peer is not None:
            try:
                await self._copy(peer)
            except QueryFailed as error:
                why = {"error": str(error)}
                log.warning("rows of a peer are folded instead of copied", extra=why)
                self._replica = Replica(self._registry, self._views, self._log)
                await self._fill(forgotten.mark)
            except (RayError, KeyError) as error:  # it ended, or copies for other peers
                log.info("the peer went away: %r", error)
                return
            else:
                if self._snapshots is not None:
                    # Rows that the peer has erased are not met in the log again.
                    self._snapshots.forget_all()
        else:
            await self._fill(forgotten.mark)
        self._has_rows.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replica.run())
            tasks.create_task(self._replica.freeze_cold())
            tasks.create_task(self._keep_snapshots())

    async def _forgotten(self) -> Forgotten:
        while True:
            try:
                return await forgotten_by_now(self._log)
            except StoreUnavailable as error:
                log.info(
                    "the list of forgotten persons cannot be read", extra={"error": str(error)}
                )
                await asyncio.sleep(RETRY)

    async def _save(self, snapshots: Snapshots) -> None:
        """Take snapshots, unless they may include a person who is being forgotten."""
        forgotten = await forgotten_by_now(self._log)
        if forgotten.is_settled:
            await snapshots.save(self._replica, forgotten.mark)

    async def _keep_snapshots(self) -> None:
        while self._snapshots is not None:
            await asyncio.sleep(COOL)
            try:
                async with self._snapshotting:
                    self._forget_erased()
                    if self._snapshots is not None and self._snapshots.due(self._replica):
                        await self._save(self._snapshots)
            except StoreUnavailable as error:
                log.info("snapshots wait", extra={"error": str(error)})
            except Exception:  # it can serve without snapshots
                log.exception("snapshots are not kept")

    def _forget_erased(self) -> None:
        if self._snapshots is not None:
            erased = self._replica.take_erased()
            # Files that could not be removed are tried again.
            forget = self._snapshots.forget
            self._replica.erased |= {view for view in erased if not forget(view)}

    async def forget_snapshots(self) -> None:
        """Remove the snapshots for good: the replica is no longer wanted here."""
        async with self._snapshotting:
            if self._snapshots is not None:
                self._snapshots.forget_all()
                self._snapshots = None

    async def begin_copy(
        self, copy: str, views: list[str]
    ) -> tuple[int, dict[str, int], list[Any], list[Any]]:
        """See `Replica.begin_copy`; returns each view's number of rows instead of their keys."""
        position, keys, parked, stopped = self._replica.begin_copy()
        self._remember(copy, _Copy(keys, dict(self._replica.tables)))
        sizes = {view: len(keys[view]) for view in views}
        return (
            position,
            sizes,
            [tuple(each) for each in parked if each.view in sizes],
            [tuple(each) for each in stopped if each.view in sizes],
        )

    async def copy(self, copy: str, view: str, start: int) -> list[Any]:
        """Return the next rows of a copy, as the columns of `Copied`."""
        asked = self._copies[copy]
        assert isinstance(asked, _Copy)
        asked.at = time.monotonic()
        return list(asked.tables[view].export(asked.keys[view][start : start + COPIED]))

    async def end_copy(self, copy: str) -> tuple[dict[str, dict[str, int]], tuple[Any, ...] | None]:
        """Return, by view, the keys of rows removed since the copy began, and the last event."""
        last, asked = self._replica.last, self._copies.pop(copy)
        assert isinstance(asked, _Copy)
        return asked.end(), last and tuple(last)

    def _remember(self, name: str, asked: _Copy | _Snapshot) -> None:
        self._copies[name] = asked
        for other in list(self._copies)[:-COPIES]:
            self._copies.pop(other).end()

    async def _copy(self, peer: Any) -> None:
        copy = uuid4().hex
        position, sizes, parked, stopped = await peer.begin_copy.remote(copy, self._views)
        for view, size in sizes.items():
            # The next rows are prepared, and more are requested, while these are added.
            asked = deque(peer.copy.remote(copy, view, start) for start in (0, COPIED))
            for start in range(0, size, COPIED):
                columns = await asked.popleft()
                asked.append(peer.copy.remote(copy, view, start + 2 * COPIED))
                self._replica.tables[view].fill(Copied(*columns))
            await asyncio.gather(*asked)
        gone, last = await peer.end_copy.remote(copy)
        self._replica.take_over(
            position,
            gone,
            [Parked(*each) for each in parked],
            [Parked(*each) for each in stopped],
            last and LastEvent(*last),
        )

    async def _fill(self, forgotten: str) -> None:
        views = [self._registry.views[name] for name in self._views]
        try:
            # Files are read while Postgres prepares rows.
            sources = [from_postgres.fill(self._postgres, views)] if self._postgres else []
            if self._snapshots is not None:
                sources.append(self._snapshots.load(self._log, forgotten))
            await self._replica.begin(list(chain(*await together(*sources))))
        except StoreUnavailable as error:  # the task that follows the log waits for it
            why = {"error": str(error)}
            log.warning("the log is folded instead of rows that were kept", extra=why)

    async def rebuild(self, view: str, accept_parked: bool = False) -> None:
        """See `Replica.rebuild`; older snapshots are removed.

        This waits until all rows are copied: later ones would come into the new table, earlier ones
        not.
        """
        await self._has_rows.wait()
        async with self._snapshotting:
            if self._snapshots is not None:
                self._snapshots.forget(view)
            await self._replica.rebuild(view, accept_parked=accept_parked)

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`; returns plain tuples."""
        return [tuple(parked) for parked in Asked(*asked).of(self._replica.parked())]

    async def address(self) -> Address:
        """Return the address that takes queries: batches in, one answer per query out."""
        return await self._server.address(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    async def _ask(self, queries: list[tuple[Any, ...]]) -> list[Any]:
        if not self._replica.caught_up.is_set():
            # It was restarted, and the caller has not noticed: rows are not missing, only not
            # loaded yet.
            return [tuple(RowResult(None, None, 0, late=True))] * len(queries)
        # A query with two filters that each match half of a million rows, but none together, takes
        # 0.2 s.
        replica, turn, results = self._replica, Turn(), list[Any]()
        for query in queries:
            if turn.over:
                await turn.pass_on()
            results += replica.answer([RowQuery(*query)])
        return [tuple(each) if isinstance(each, tuple) else each for each in results]

    async def watch(self, watcher: str, rows: list[tuple[str, str]]) -> None:
        """See `Subscriptions.follow`."""
        self._replica.subscriptions.follow(watcher, rows)

    async def changes(self, watcher: str, timeout: float) -> list[Any] | None:
        """Return view, key and result, flattened; see `Replica.changes`."""
        changes = await self._replica.changes(watcher, timeout)
        return changes and [(view, key, *found) for view, key, found in changes]

    async def reached(self, position: int, timeout: float) -> int:
        """Return the replica's position once it is at `position`, or after `timeout` seconds."""
        progress = self._replica.progress
        await progress.reached(position, timeout)
        return progress.position

    async def begin_snapshot(
        self, snapshot: str, view: str, queries: list[tuple[Any, ...]]
    ) -> list[bytes]:
        """See `Replica.begin_snapshot`; return the answers."""
        asked = [RowQuery(*each) for each in queries]
        table, moment, pages = self._replica.begin_snapshot(view, asked)
        self._remember(snapshot, _Snapshot(table, moment))
        return pages

    async def snapshot(self, snapshot: str, start: int) -> list[tuple[Any, ...]]:
        """Return the next rows of a snapshot; an empty answer ends it."""
        asked = self._copies[snapshot]
        assert isinstance(asked, _Snapshot)
        asked.at = time.monotonic()
        rows = asked.moment.given(start, SNAPSHOT)
        if not rows:
            self._copies.pop(snapshot).end()
        return rows

    async def status(
        self, asker: str = "", in_flight: dict[str, int] | None = None
    ) -> dict[str, Any]:
        """Return the status for operators, and for choosing a replica to query.

        `in_flight` has the open queries of `asker`, one of many processes, to all replicas by view:
        the sum is the load, which determines how many replicas there should be.
        """
        await self._membership.check()
        now = time.monotonic()
        for copy, asked in list(self._copies.items()):
            if now - asked.at > COPY_IDLE:
                self._copies.pop(copy).end()
        self._asked[asker] = now, in_flight or {}
        self._asked = {name: each for name, each in self._asked.items() if now - each[0] < ASKED}
        load: Counter[str] = Counter()
        for _, said in self._asked.values():
            load.update(said)
        return {
            "in_flight": dict(load),
            "incarnation": self._incarnation,
            **process_status(),
            "started": self._started,
            **self._replica.status(),
            **(
                {"error": self._error}
                if self._error and not self._replica.caught_up.is_set()
                else {}
            ),
        }

    async def stop(self) -> None:
        """End the subscription, and write a snapshot."""
        if self._following is not None:
            self._following.cancel()
        with suppress(TimeoutError, StoreUnavailable):
            async with asyncio.timeout(LAST_SNAPSHOT), self._snapshotting:
                self._forget_erased()
                if self._snapshots is not None and self._replica.caught_up.is_set():
                    await self._save(self._snapshots)
        await self._server.close()
        await self._log.close()
        await end_part()
