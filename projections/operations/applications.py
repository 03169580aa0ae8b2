"""Whether each view in each store has applied an event: looked up, not recorded.

A store that is past an event's position has applied it, or it is parked there. The time is only
known if this process saw the store pass the position: then as an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from projections import discarded_events as discards
from projections.errors import ActorUnavailable
from projections.parked_pages import Asked
from projections.poison import Discarded, Parked
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.placements import Placements
from rayfold import Registry

Place = tuple[str, int]
"""A stream, and a revision in it."""


class _Row(NamedTuple):
    """A row of a view in a store that an event concerns; `broken` says why its key is unknown."""

    view: str
    store: str
    key: str
    handle: ActorHandle
    broken: str = ""


class _Known(NamedTuple):
    """What is parked, by actor (None: no answer), and what was discarded."""

    parked: Mapping[str, Sequence[Parked] | None]
    discarded: frozenset[Discarded]


class Applications:
    """Finds the state of events in all stores of the read side."""

    def __init__(self, registry: Registry, log: Log, placements: Placements) -> None:
        self._registry = registry
        self._log = log
        self._placements = placements

    async def of(self, records: Sequence[RawRecord]) -> dict[Place, list[dict[str, Any]]]:
        """Return, by event, its state in each view's stores.

        `status` is `applied`, `waiting`, `parked`, `stopped`, `discarded` or `broken` (its key is
        unknown). `within_seconds` is from the event's time to when the store was first seen beyond
        it, None if that was not seen; `error` says why it is parked.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        views = [*self._registry.views, *self._registry.projections]
        told: dict[Place, list[dict[str, Any]]] = {}
        concerned: list[tuple[RawRecord, list[_Row]]] = []
        for raw in records:
            rows = self._concerned(raw)
            if isinstance(rows, str):
                broken = {"view": None, "store": None, "status": "broken", "error": rows}
                told[raw.stream, raw.revision] = [broken]
            else:
                concerned.append((raw, rows))
        known = _Known(await _parked(concerned), await discards.load(self._log, views))
        for raw, rows in concerned:
            told[raw.stream, raw.revision] = [_at(raw, row, known) for row in rows]
        return told

    def _concerned(self, raw: RawRecord) -> list[_Row] | str:
        """Return the rows that an event concerns, or why they are unknown."""
        try:
            events = recorded(self._registry, raw)
        except (Exception, SystemExit) as error:  # the domain's code, or an unknown type
            return str(error)
        types = {type(each.event) for each in events}
        rows: list[_Row] = []
        for view in self._registry.views.values():
            if types.isdisjoint(view.folds):
                continue
            try:
                keys = [each.key for each in view.changes_of(events)]
            except (Exception, SystemExit) as error:  # the domain's key function
                keys, broken = [""], str(error)
            else:
                broken = ""
            for key in keys:
                for store in view.stores:
                    if store == "memory":
                        handles: Sequence[ActorHandle] = self._placements.replicas_of(view.name)
                    else:
                        # Consumers that share a view all report the same: the table's position.
                        handles = self._placements.filling(view.name, key, store)[:1]
                    rows += [_Row(view.name, store, key, each, broken) for each in handles]
        for projection in self._registry.projections.values():
            sql = self._placements.sql_projectors.get(projection.name)
            if sql is not None and not types.isdisjoint(projection.handlers):
                key = f"{raw.revision}@{raw.stream}"
                rows.append(_Row(projection.name, "postgres", key, sql))
        return rows


async def _parked(
    concerned: Sequence[tuple[RawRecord, Sequence[_Row]]],
) -> dict[str, Sequence[Parked] | None]:
    """Return which of these rows, and of the events' streams, are parked, by actor.

    Only these are read: there may be as many parked rows as rows.
    """
    handles = {row.handle.name: row.handle for _, rows in concerned for row in rows}
    names = {raw.stream for raw, _ in concerned} | {
        row.key for _, rows in concerned for row in rows
    }
    asked = Asked(among=frozenset(names - {""}))
    found: dict[str, Sequence[Parked] | None] = {}
    for name, handle in handles.items():
        try:
            found[name] = await handle.parked(asked)
        except ActorUnavailable:
            found[name] = None
    return found


def _at(raw: RawRecord, row: _Row, known: _Known) -> dict[str, Any]:
    view, store, key, handle, broken = row
    status, error = _status(raw, view, key, handle, known)
    passed = handle.progress.passed(raw.position) if status == "applied" else None
    within = None
    if passed is not None and raw.recorded_at is not None:
        within = max(round(passed - raw.recorded_at.timestamp(), 3), 0.0)
    return {
        "view": view,
        "store": store,
        "part": handle.name,
        "key": key,
        "status": status,
        "within_seconds": within,
        **({"error": error or broken} if error or broken else {}),
    }


def _status(
    raw: RawRecord, view: str, key: str, handle: ActorHandle, known: _Known
) -> tuple[str, str]:
    """Return an event's status in a store, and the reason if it is not a good one."""
    if known.discarded & {
        Discarded(view, each, raw.stream, raw.revision) for each in {key, "", handle.name}
    }:
        return "discarded", ""
    parked = known.parked[handle.name]
    for each in parked or ():
        if each.view != view or each.position > raw.position:
            continue
        if each.key == key or (not each.key and each.stream == raw.stream):
            if each.position == raw.position:
                return "parked", each.error
            return "parked", f"waits behind {each.revision}@{each.stream}: {each.error}"
    if view in handle.seen.get("stopped", {}) and handle.progress.position < raw.position:
        return "stopped", str(handle.seen["stopped"][view])
    if handle.progress.position < raw.position:
        return "waiting", "" if handle.ready else str(handle.seen.get("error", "not ready"))
    if parked is None:
        return "applied", "whether it is parked is not known: the part does not answer"
    return "applied", ""
