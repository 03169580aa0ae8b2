"""The rows of one view in memory, with the indexes that it declares."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from projections.errors import QueryFailed
from projections.folding import Folding, Step
from projections.pages import Place, decode_cursor, page_json
from rayfold import VersionedRow, View, ViewDefinition, document, key_text

LOOKED_AT = 4096
"""Rows of a list that are checked against the other filters at a time."""


class Copied(NamedTuple):
    """Rows to be sent to another replica, in columns: serialized and added twice as fast.

    `indexed` has the text of each of the view's lists, row by row.
    """

    keys: list[str]
    revisions: list[int]
    positions: list[int]
    started: list[int]
    bodies: list[bytes]
    indexed: list[tuple[str | None, ...]]

    @classmethod
    def of(cls, view: ViewDefinition, entries: Sequence[tuple[str, VersionedRow]]) -> Copied:
        """Return these rows, by key."""
        return cls(
            [key for key, _ in entries],
            [entry.revision for _, entry in entries],
            [entry.position for _, entry in entries],
            [entry.started for _, entry in entries],
            [document(entry) for _, entry in entries],
            [_indexed(view, key, entry.row) for key, entry in entries],
        )


class Row:
    """A row as JSON, as an entry, or as both: each is made from the other when asked for.

    Readers need the JSON, which is made once for all readers of this version; folding needs the
    entry. A row that came from a peer, or has not changed for a while, is only JSON: a quarter of
    the memory, and quick to copy. `indexed` has the text of each of the view's lists.
    """

    __slots__ = ("_body", "_entry", "_view", "indexed", "position", "revision", "started")

    def __init__(self, view: ViewDefinition) -> None:
        self._view = view
        self._entry: VersionedRow | None = None
        self._body: bytes | None = None
        self.indexed: tuple[str | None, ...] = ()
        self.revision = self.position = self.started = -1

    @property
    def entry(self) -> VersionedRow:
        """Return the row in the form that is folded."""
        if self._entry is None:
            assert self._body is not None
            fields = self._body[: self._body.rindex(b',"revision":')] + b"}"
            row = self._view.model.__pydantic_validator__.validate_json(fields, extra="ignore")
            self._entry = VersionedRow(row, self.revision, self.position, self.started)
        return self._entry

    def become(self, entry: VersionedRow) -> None:
        """Become the row after an event."""
        self._entry, self._body = entry, None
        _, self.revision, self.position, self.started = entry

    @classmethod
    def copied(
        cls,
        view: ViewDefinition,
        revision: int,
        position: int,
        started: int,
        body: bytes,
        indexed: tuple[str | None, ...],
    ) -> Row:
        """Make a row from a peer's copy."""
        row = cls.__new__(cls)
        row._view, row._entry, row._body = view, None, body
        row.revision, row.position, row.started, row.indexed = revision, position, started, indexed
        return row

    def as_it_is(self) -> Row:
        """Return a copy that later changes of this row do not affect."""
        row = Row.copied(self._view, self.revision, self.position, self.started, b"", self.indexed)
        row._entry, row._body = self._entry, self._body
        return row

    def freeze(self) -> None:
        """Keep the row as JSON only from now on."""
        self.json()
        self._entry = None

    def json(self) -> bytes:
        """Return the row's document as JSON, as readers get it."""
        if self._body is None:
            self._body = document(self.entry)
        return self._body


class Table:
    """The rows by key. Lists of rows are kept in the order of pages."""

    def __init__(self, view: ViewDefinition) -> None:
        self.view = view
        self.rows: dict[str, Row] = {}
        self._all: list[Place] = []
        self._lists: dict[str, dict[str, list[Place]]] = {field: {} for field in view.lists}
        self._changed: set[str] = set()
        self._changed_before: set[str] = set()
        self._copies = 0
        self._gone: dict[str, int] = {}
        self._moments: list[Moment] = []

    def fold(self, step: Step, folding: Folding) -> bool:
        """Fold an event; return whether the row changed."""
        row = self.rows.get(step.key)
        if row is not None and row.position >= step.event.position:
            return False
        if step.erases:
            folding.fold(step, None)
            if row is not None:
                self._put(step, row, None, ())
            return row is not None
        try:
            before = row.entry if row else None
        except ValueError as error:  # the row's JSON is not valid for its model
            folding.broke(step, error)
            return False
        after = folding.fold(step, before)
        if after is before:
            return False
        try:
            indexed = self._indexed_after(step.key, row, before, after)
        except Exception as error:  # the fold's result was not validated
            folding.broke(step, error)
            return False
        self._put(step, row, after, indexed)
        return True

    def begin_copy(self) -> list[str]:
        """Return the keys of all rows, for `export`; from now on record which rows are removed."""
        self._copies += 1
        return list(self.rows)

    def end_copy(self) -> dict[str, int]:
        """Return the keys of rows that were removed meanwhile, with the position."""
        gone = dict(self._gone)
        self._copies -= 1
        if not self._copies:
            self._gone.clear()
        return gone

    def export(self, keys: Sequence[str]) -> Copied:
        """Return these rows, if they still exist, for a peer.

        Raises:
            QueryFailed: one of them is not JSON.
        """
        there = [key for key in keys if key in self.rows]
        rows = [self.rows[key] for key in there]
        try:
            bodies = [row.json() for row in rows]
        except ValueError as error:  # a fold gave what was not validated
            raise no_json(self.view.name, error) from error
        return Copied(
            there,
            [row.revision for row in rows],
            [row.position for row in rows],
            [row.started for row in rows],
            bodies,
            [row.indexed for row in rows],
        )

    def moment(self) -> Moment:
        """Return the rows as they are now, until `end` is called with it."""
        moment = Moment(self.rows)
        self._moments.append(moment)
        return moment

    def end(self, moment: Moment) -> None:
        """Stop preserving rows for this moment."""
        self._moments.remove(moment)

    def cold(self) -> list[str]:
        """Return rows that have not changed since the last call, but had before it."""
        cold = self._changed_before - self._changed
        self._changed_before, self._changed = self._changed, set()
        return list(cold)

    def freeze(self, keys: Iterable[str]) -> None:
        """Keep these rows as JSON only, until something changes them."""
        for key in keys:
            row = self.rows.get(key)
            if row is not None and key not in self._changed:
                with suppress(ValueError):  # it is not JSON: whoever requests it gets the error
                    row.freeze()

    def fill(self, copied: Copied) -> None:
        """Add rows that were folded elsewhere; this table has none of them."""
        keys, *columns = copied
        view, make = self.view, Row.copied
        rows = [make(view, *values) for values in zip(*columns, strict=True)]
        self.rows.update(zip(keys, rows, strict=True))
        places = list(map(Place, copied.started, keys))
        self._all += places
        for at, lists in enumerate(self._lists.values()):
            for place, indexed in zip(places, copied.indexed, strict=True):
                value = indexed[at]
                if value is not None:
                    lists.setdefault(value, []).append(place)

    def without(self, gone: Mapping[str, int]) -> None:
        """Remove rows that were removed after they were copied; call before `filled`."""
        late = {
            key: row
            for key, position in gone.items()
            if (row := self.rows.get(key)) is not None and row.position < position
        }
        if not late:
            return
        for key in late:
            del self.rows[key]
        # Each list is filtered once, however many rows are removed: it is as long as the table.
        self._all = [place for place in self._all if place.key not in late]
        for at, lists in enumerate(self._lists.values()):
            for value in {text for row in late.values() if (text := row.indexed[at]) is not None}:
                left = [place for place in lists.pop(value) if place.key not in late]
                if left:
                    lists[value] = left

    def filled(self) -> None:
        """Sort the lists: all rows are there."""
        self._all.sort()
        for lists in self._lists.values():
            for places in lists.values():
                places.sort()

    def page(
        self, filters: Mapping[str, str], limit: int, cursor: str | None
    ) -> tuple[bytes, list[Row]]:
        """Return rows that match all filters, as JSON `{"items": […], "next_cursor": …}`.

        Raises:
            BadCursor: it is not one of ours.
        """
        places, others = self._smallest(self.view.sought(filters))
        start = decode_cursor(cursor)
        left = start.in_list(places)
        table, found, size = self.rows, list[Place](), limit + 1
        while len(found) <= limit and left:
            # Checked in pieces: each of two filters may match half of the table, and both together
            # no row.
            some = [places[at] for at in left[:size]]
            left, size = left[size:], min(2 * size, LOOKED_AT)
            for index, value in others:
                some = [each for each in some if table[each[1]].indexed[index] == value]
            found += some
        rows = [table[place.key] for place in found[:limit]]
        following = start._replace(behind=found[limit - 1]) if len(found) > limit else None
        return page_json([row.json() for row in rows], following), rows

    def _smallest(self, filters: Mapping[str, str]) -> tuple[list[Place], list[tuple[int, str]]]:
        """Return the shortest list with all matches, and the indexed fields left to check."""
        if not filters:
            return self._all, []
        lists = {field: self._lists[field].get(value, []) for field, value in filters.items()}
        best = min(lists, key=lambda field: len(lists[field]))
        order = {field: at for at, field in enumerate(self.view.lists)}
        return lists[best], [(order[f], value) for f, value in filters.items() if f != best]

    def _indexed_after(
        self,
        key: str,
        row: Row | None,
        before: VersionedRow | None,
        after: VersionedRow | None,
    ) -> tuple[str | None, ...]:
        """Return the texts of indexed fields; the same object as before if none has changed.

        Raises:
            Exception: a field is missing, or has no text.
        """
        if after is None:
            return ()
        if row is not None and before is not None:
            old, new = before.row.__dict__, after.row.__dict__
            if all(old[field] is new[field] for field in self.view.indexes):
                return row.indexed
        return _indexed(self.view, key, after.row)

    def _put(
        self, step: Step, row: Row | None, after: VersionedRow | None, now: tuple[str | None, ...]
    ) -> None:
        """Update the lists for a row that an event began, changed or removed."""
        key = step.key
        if row is not None:
            for moment in self._moments:
                moment.keep(key, row)
        if row is not None and after is not None and row.started == after.started:
            was, row.indexed = row.indexed, now
            row.become(after)
            self._changed.add(key)
            if was is not now:
                stays = Place(after.started, key)
                self._move(was, stays, now, stays)
            return
        was, before = (row.indexed, Place(row.started, key)) if row else ((), None)
        if after is None:
            self.rows.pop(key, None)
            if self._copies:
                self._gone[key] = step.event.position
            place = None
        else:
            place = Place(after.started, key)
            if row is None:
                row = self.rows[key] = Row(self.view)
            row.become(after)
            row.indexed = now
            self._changed.add(key)
        if before is not None:
            _remove(self._all, before)
        if place is not None:
            insort(self._all, place)
        self._move(was, before, now, place)

    def _move(
        self,
        was: tuple[str | None, ...],
        before: Place | None,
        now: tuple[str | None, ...],
        place: Place | None,
    ) -> None:
        """Move a row from the lists of its old fields to those of its new ones."""
        for at, lists in enumerate(self._lists.values()):
            old, new = was[at] if was else None, now[at] if now else None
            if old == new and before == place:
                continue
            if old is not None and before is not None:
                _remove(lists[old], before)
                if not lists[old]:
                    del lists[old]
            if new is not None and place is not None:
                insort(lists.setdefault(new, []), place)


class Moment:
    """The rows of a table as of one moment, though they are read piece by piece.

    Rows that change meanwhile are preserved in their old version.
    """

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.keys = list(rows)
        self._rows = rows
        self._kept: dict[str, Row] = {}

    def keep(self, key: str, row: Row) -> None:
        """Preserve a row that is about to change or to be removed."""
        if key not in self._kept:
            self._kept[key] = row.as_it_is()

    def given(self, start: int, number: int) -> list[tuple[str, bytes, int, int]]:
        """Return some rows: key, document, position, and where each began."""
        rows, kept = self._rows, self._kept
        some = ((key, kept.get(key) or rows[key]) for key in self.keys[start : start + number])
        return [(key, row.json(), row.position, row.started) for key, row in some]


def no_json(view: str, error: ValueError) -> QueryFailed:
    """Return the error for a row that cannot be written as JSON."""
    return QueryFailed(f"a row of {view!r} cannot be written as JSON: {error}")


def _remove(places: list[Place], place: Place) -> None:
    at = bisect_left(places, place)
    if at < len(places) and places[at] == place:
        del places[at]


def _indexed(view: ViewDefinition, key: str, row: View) -> tuple[str | None, ...]:
    texts = tuple([_text(row, field) for field in view.indexes])
    return view.listed(key, texts) if view.tenants else texts


def _text(row: View, field: str) -> str | None:
    value = getattr(row, field)
    return None if value is None else key_text(value)
