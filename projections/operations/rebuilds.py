"""Rebuilds of views: one at a time for each, in every store that keeps it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eventstore.deletions import with_deletions
from eventstore.port import Log
from projections.errors import ProjectionError, UnknownTarget, WouldPark
from projections.operations.rebuild import Rebuild
from rayfold import RayfoldError, Registry, ViewDefinition
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

Rebuilder = Callable[[Rebuild], Awaitable[None]]
"""Rebuilds a view in one store; raises `ProjectionError` if it fails, and the live one stays."""


class Rebuilds:
    """The last rebuild of each view, and the running ones."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        stores_of: Callable[[ViewDefinition], Sequence[str]],
        rebuilders: Callable[[str, str], Rebuilder],
    ) -> None:
        """`stores_of` returns the stores that keep a view here.

        `rebuilders` returns what rebuilds a view, or a SQL projection, in a store.
        """
        self.stores_of = stores_of
        self._registry = registry
        self._log = log
        self._rebuilders = rebuilders
        self._rebuilds: dict[str, Rebuild] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, view: str, *, accept_parked: bool = False) -> dict[str, Any]:
        """Start to rebuild a view in every store that keeps it; return the rebuild's status.

        Custom SQL projections count as views. A running rebuild is joined, and accepts parked keys
        if either request does.

        Raises:
            UnknownTarget: there is no such view.
        """
        return self._begun(view, accept_parked).status()

    def _begun(self, view: str, accept_parked: bool = False) -> Rebuild:
        known = self._registry.views.get(view)
        if known is None and view not in self._registry.projections:
            raise UnknownTarget(f"no view is named {view!r}")
        running = self._rebuilds.get(view)
        if running is None or not running.running:
            stores = self.stores_of(known) if known is not None else ("postgres",)
            # Other stores would park what memory would, and may also reject rows: so memory comes
            # last, and is not replaced if one of them fails.
            stores = sorted(stores, key=lambda store: store == "memory")
            running = self._rebuilds[view] = Rebuild(view, stores, accept_parked=accept_parked)
            task = asyncio.create_task(self._run(running))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        running.accept_parked = running.accept_parked or accept_parked
        return running

    async def afresh(self, view: str, *, accept_parked: bool) -> None:
        """Rebuild a view from the current log, and wait until that is done.

        A running rebuild does not count: it may have passed events that were discarded since, or a
        person who was forgotten since.

        Raises:
            ProjectionError: it failed; the live one stays.
        """
        if (running := self._rebuilds.get(view)) is not None:
            await running.finished.wait()
        await _over(self._begun(view, accept_parked))

    def status(self) -> list[dict[str, Any]]:
        """Return the last rebuild of each view."""
        return [rebuild.status() for rebuild in self._rebuilds.values()]

    async def stop(self) -> None:
        """Cancel the running ones."""
        await cancel(*self._tasks)

    async def _run(self, rebuild: Rebuild) -> None:
        try:
            for store in rebuild.stores:
                rebuild.begin(
                    store, await self._log.end_position(with_deletions(self._registry.prefixes))
                )
                await self._rebuilders(rebuild.view, store)(rebuild)
            rebuild.over(None)
        except RayfoldError as error:
            log.warning("a rebuild failed", extra={"view": rebuild.view, "error": error})
            rebuild.over(str(error), would_park=isinstance(error, WouldPark))
        except BaseException as error:
            rebuild.over(repr(error))
            raise


async def _over(rebuild: Rebuild) -> None:
    """Wait for this rebuild: when it is over, there may be another one of the view."""
    await rebuild.finished.wait()
    if rebuild.error:
        raise ProjectionError(rebuild.error)
