"""The rows of one view in memory, with the indexes that it declares."""

from __future__ import annotations

import base64
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from projections.errors import BadCursor
from rayfold import VersionedRow, View, document
from rayfold.recorded import RecordedEvent


class Copied(NamedTuple):
    """Rows on their way to another replica, in columns: dumped and taken in twice as fast.

    `indexed` has the text of each indexed field, row by row.
    """

    keys: list[str]
    revisions: list[int]
    positions: list[int]
    started: list[int]
    bodies: list[bytes]
    indexed: list[tuple[str | None, ...]]

    @classmethod
    def of(cls, view: type[View], entries: Sequence[tuple[str, VersionedRow]]) -> Copied:
        """These rows, by key."""
        return cls(
            [key for key, _ in entries],
            [entry.revision for _, entry in entries],
            [entry.position for _, entry in entries],
            [entry.started for _, entry in entries],
            [document(entry) for _, entry in entries],
            [_indexed(view, entry.row) for _, entry in entries],
        )


class Row:
    """A row as JSON, as an entry, or as both: each is made from the other when asked for.

    Readers want the JSON, which is made once for all readers of this version; folding
    wants the entry. A row that came from a peer, or that nothing has changed for a while,
    is only JSON: a quarter of the memory, and quick to copy. `indexed` has the text of each
    indexed field.
    """

    __slots__ = ("_body", "_entry", "_view", "indexed", "position", "revision", "started")

    def __init__(self, view: type[View]) -> None:
        self._view = view
        self._entry: VersionedRow | None = None
        self._body: bytes | None = None
        self.indexed: tuple[str | None, ...] = ()
        self.revision = self.position = self.started = -1

    @property
    def entry(self) -> VersionedRow:
        """For folding."""
        if self._entry is None:
            assert self._body is not None
            fields = self._body[: self._body.rindex(b',"revision":')] + b"}"
            row = self._view.__pydantic_validator__.validate_json(fields)
            self._entry = VersionedRow(row, self.revision, self.position, self.started)
        return self._entry

    def become(self, entry: VersionedRow) -> None:
        """The row after an event."""
        self._entry, self._body = entry, None
        _, self.revision, self.position, self.started = entry

    @classmethod
    def copied(
        cls,
        view: type[View],
        revision: int,
        position: int,
        started: int,
        body: bytes,
        indexed: tuple[str | None, ...],
    ) -> Row:
        """The row as a peer has it."""
        row = cls.__new__(cls)
        row._view, row._entry, row._body = view, None, body
        row.revision, row.position, row.started, row.indexed = revision, position, started, indexed
        return row

    def freeze(self) -> None:
        """From now on only JSON."""
        self.json()
        self._entry = None

    def json(self) -> bytes:
        """For readers."""
        if self._body is None:
            self._body = document(self.entry)
        return self._body


class Table:
    """Rows by key. Lists of rows are kept in the order in which the rows began."""

    def __init__(self, view: type[View]) -> None:
        self.view = view
        self.rows: dict[str, Row] = {}
        self._begun: dict[int, Row] = {}
        self._all: list[int] = []
        self._lists: dict[str, dict[str, list[int]]] = {field: {} for field in view.indexes}
        self._changed: set[str] = set()
        self._changed_before: set[str] = set()

    def fold(self, key: str, event: RecordedEvent) -> bool:
        """Takes in an event; says whether the row changed."""
        row = self.rows.get(key)
        if row is not None and row.position >= event.position:
            return False
        before = row.entry if row else None
        after = self.view.fold(before, event)
        if after is before:
            return False
        self._put(key, row, after)
        return True

    def export(self, keys: Sequence[str]) -> Copied:
        """These rows, as far as they are still there, for a peer."""
        there = [key for key in keys if key in self.rows]
        rows = [self.rows[key] for key in there]
        return Copied(
            there,
            [row.revision for row in rows],
            [row.position for row in rows],
            [row.started for row in rows],
            [row.json() for row in rows],
            [row.indexed for row in rows],
        )

    def cold(self) -> list[str]:
        """The rows that have not changed since the call before this one, but had before it."""
        cold = self._changed_before - self._changed
        self._changed_before, self._changed = self._changed, set()
        return list(cold)

    def freeze(self, keys: Iterable[str]) -> None:
        """Keeps these rows as JSON only, until something changes them."""
        for key in keys:
            row = self.rows.get(key)
            if row is not None and key not in self._changed:
                row.freeze()

    def fill(self, copied: Copied) -> None:
        """Takes rows over that others have folded; this table had none of them."""
        keys, *columns = copied
        view, make = self.view, Row.copied
        rows = [make(view, *values) for values in zip(*columns, strict=True)]
        self.rows.update(zip(keys, rows, strict=True))
        self._begun.update(zip(copied.started, rows, strict=True))
        self._all += copied.started
        for place, lists in enumerate(self._lists.values()):
            for started, indexed in zip(copied.started, copied.indexed, strict=True):
                value = indexed[place]
                if value is not None:
                    lists.setdefault(value, []).append(started)

    def filled(self) -> None:
        """All rows are there: puts the lists in order."""
        self._all.sort()
        for lists in self._lists.values():
            for begun in lists.values():
                begun.sort()

    def page(
        self, filters: dict[str, str], limit: int, cursor: str | None
    ) -> tuple[bytes, list[Row]]:
        """Rows that match all filters, as JSON `{"items": […], "next_cursor": …}`.

        Raises:
            BadCursor: it is not one of ours.
        """
        begun, others = self._smallest(filters)
        at = bisect_right(begun, decode_cursor(cursor)) if cursor else 0
        rows: list[Row] = []
        last = 0
        more = False
        while at < len(begun):
            row = self._begun[begun[at]]
            at += 1
            if all(row.indexed[place] == value for place, value in others):
                if len(rows) == limit:
                    more = True
                    break
                rows.append(row)
                last = row.started
        return page_json([row.json() for row in rows], last if more else None), rows

    def _smallest(self, filters: dict[str, str]) -> tuple[list[int], list[tuple[int, str]]]:
        """The shortest list that has all matches, and which indexed fields are left to check."""
        if not filters:
            return self._all, []
        lists = {field: self._lists[field].get(value, []) for field, value in filters.items()}
        best = min(lists, key=lambda field: len(lists[field]))
        places = {field: place for place, field in enumerate(self.view.indexes)}
        return lists[best], [(places[f], value) for f, value in filters.items() if f != best]

    def _put(self, key: str, row: Row | None, after: VersionedRow | None) -> None:
        if row is not None and after is not None and after.started == row.started:
            row.become(after)
            self._changed.add(key)
            if self.view.indexes:
                was = row.indexed
                row.indexed = _indexed(self.view, after.row)
                self._move(was, row.started, row.indexed, row.started)
            return
        started, indexed = (row.started, row.indexed) if row else (None, ())
        if row is not None and started is not None and (not after or after.started != started):
            _remove(self._all, started)
            self._begun.pop(started, None)
        if after is None:
            self.rows.pop(key, None)
            now: tuple[str | None, ...] = ()
        else:
            if row is None:
                row = self.rows[key] = Row(self.view)
            row.become(after)
            now = row.indexed = _indexed(self.view, after.row)
            self._changed.add(key)
            if started != after.started:
                insort(self._all, after.started)
                self._begun[after.started] = row
        self._move(indexed, started, now, after.started if after else None)

    def _move(
        self,
        was: tuple[str | None, ...],
        from_started: int | None,
        now: tuple[str | None, ...],
        to_started: int | None,
    ) -> None:
        """From the lists of the row's old fields to those of its new ones."""
        if was == now and from_started == to_started:
            return
        for place, lists in enumerate(self._lists.values()):
            before = was[place] if was else None
            after = now[place] if now else None
            if before == after and from_started == to_started:
                continue
            if before is not None and from_started is not None:
                _remove(lists[before], from_started)
                if not lists[before]:
                    del lists[before]
            if after is not None and to_started is not None:
                insort(lists.setdefault(after, []), to_started)


def _remove(begun: list[int], started: int) -> None:
    at = bisect_right(begun, started) - 1
    if at >= 0 and begun[at] == started:
        del begun[at]


def _indexed(view: type[View], row: View) -> tuple[str | None, ...]:
    return tuple([_text(row, field) for field in view.indexes])


def _text(row: View, field: str) -> str | None:
    value: Any = getattr(row, field)
    return None if value is None else str(value)


def page_json(items: list[bytes], last: int | None) -> bytes:
    """A page; `last` is where the next one goes on, None for the end."""
    cursor = b"null" if last is None else b'"%b"' % encode_cursor(last)
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), cursor)


def encode_cursor(started: int) -> bytes:
    """An opaque cursor: the place behind which the next page begins."""
    return base64.urlsafe_b64encode(b"s%d" % started).rstrip(b"=")


def decode_cursor(cursor: str) -> int:
    """The place that a cursor stands for.

    Raises:
        BadCursor: it is not one of ours.
    """
    try:
        text = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        if text[:1] == b"s" and text[1:].isdigit() and len(text) < 20:
            return int(text[1:])
    except ValueError:
        pass
    raise BadCursor(f"no cursor of ours: {cursor!r}")
