"""Whether every view in every store is what a fresh fold of the log says it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eventstore.port import Log
from projections import discarded_events as discards
from projections.folding import Folding
from projections.memory.table import Table
from projections.operations.monitor import Monitor
from projections.postgres.reader import PostgresReader
from projections.supervision.placements import Placements
from rayfold import Registry, ViewDefinition


class StoredRow(NamedTuple):
    """A row as a store has it: its document, and the position of its last event."""

    body: bytes
    position: int


class Verification:
    """Compares what the stores have with the log."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        placements: Placements,
        postgres: PostgresReader,
        monitor: Monitor,
    ) -> None:
        self._registry = registry
        self._log = log
        self._placements = placements
        self._postgres = postgres
        self._monitor = monitor

    async def verify(self, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Return where a view in a store differs from a fresh fold of the log; none, one hopes.

        Raises:
            Behind: a part did not come to the log's end in `timeout` seconds.
            StoreUnavailable, PostgresUnavailable, ActorUnavailable: no answer.
        """
        end = await self._log.end_position(self._registry.prefixes)
        await self._monitor.caught_up(timeout)
        expected = await fold_afresh(self._registry, self._log, end)
        differences: list[Difference] = []
        for view in self._registry.views.values():
            for store, rows in (await self._stores_of(view)).items():
                found = {key: StoredRow(body, position) for key, body, position in rows}
                differences += compare(store, view.name, expected[view.name], found, end)
        return plain(differences)

    async def _stores_of(self, view: ViewDefinition) -> dict[str, list[tuple[str, bytes, int]]]:
        stores: dict[str, list[tuple[str, bytes, int]]] = {}
        for replica in self._placements.replicas_of(view.name):
            stores[replica.name] = await replica.rows(view.name)
        if "postgres" in view.stores:
            stores["postgres"] = await self._postgres.rows(view.name)
        return stores


class Difference(NamedTuple):
    """`expected` is what the log says; None on either side means no such row."""

    store: str
    view: str
    key: str
    expected: str | None
    found: str | None


async def fold_afresh(registry: Registry, log: Log, until: int) -> dict[str, dict[str, StoredRow]]:
    """Every view's rows as of position `until`, from nothing but the log.

    A row that is parked behind an event that cannot be folded is parked here too.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    views = list(registry.views.values())
    folding = Folding(registry, views)
    folding.discarded = await discards.load(log, registry.views)
    tables = {view.name: Table(view) for view in views}
    async for raw in log.read_all(registry.prefixes):
        if raw.position > until:
            break
        for step in folding.steps(raw):
            tables[step.view.name].fold(step, folding)
        folding.take_noted()
    return {
        name: {key: StoredRow(row.json(), row.position) for key, row in table.rows.items()}
        for name, table in tables.items()
    }


def compare(
    store: str,
    view: str,
    expected: Mapping[str, StoredRow],
    found: Mapping[str, StoredRow],
    until: int,
) -> list[Difference]:
    """The rows that differ, leaving out those that have moved on since `until`."""
    differences = []
    for key in expected.keys() | found.keys():
        wanted, kept = expected.get(key), found.get(key)
        if kept is not None and kept.position > until:
            continue
        if wanted is None or kept is None or wanted.body != kept.body:
            differences.append(
                Difference(
                    store,
                    view,
                    key,
                    wanted.body.decode() if wanted else None,
                    kept.body.decode() if kept else None,
                )
            )
    return differences


def plain(differences: list[Difference]) -> list[dict[str, Any]]:
    """As JSON."""
    return [difference._asdict() for difference in differences]
