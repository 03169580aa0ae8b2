"""Checks that a store answers filters, orders and cursors according to its own rows.

Queries are sampled from the log's rows. A store answers all of them as of the same moment as its
rows, so that concurrent writes do not matter; the right answers are found by scanning those rows,
without any index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlencode

from pydantic import Field, ValidationError, create_model

from projections.memory.table import Table
from projections.operations.differences import Difference, StoredRow, compare, rows_of
from projections.pages import Place, Start, decode_cursor, encode_cursor, page_json
from projections.row_query import RowQuery, Snapshot
from rayfold import Message, ViewDefinition, key_text

VALUES = 20
"""Sampled values of each index, and pairs of values of each two indexes."""

LIMITS = (1, 7, 100)
"""Page sizes, used in turn."""

PAGES = 5
"""Pages of each list: from its beginning, one from its middle, and one at its end."""


def sample(table: Table) -> list[RowQuery]:
    """Return queries that the view's indexes must answer, from the existing rows."""
    texts = {key: row.indexed for key, row in table.rows.items()}
    lists = _Lists(table.view, [row.started for row in table.rows.values()], texts)
    asked = []
    for at, (filters, places) in enumerate(lists.sampled()):
        limit, of_store = LIMITS[at % len(LIMITS)], table.view.asked(filters)
        starts = [*range(-1, min(len(places), limit * PAGES) - 1, limit)] or [-1]
        starts += [len(places) // 2, len(places) - 2]
        # Each list in one of the orders, and the first one in both.
        for newest_first in (False, True) if at == 0 else (at % 2 == 1,):
            ordered = places[::-1] if newest_first else places
            for before in sorted({n for n in starts if n == -1 or 0 <= n < len(places)}):
                start = Start(ordered[before] if before >= 0 else None, newest_first)
                cursor = None if start == Start(None) else encode_cursor(start)
                asked.append(RowQuery(table.view.name, None, 0, of_store, limit, cursor))
    return asked


def compare_store(
    store: str, table: Table, asked: Sequence[RowQuery], found: Snapshot, until: int
) -> list[Difference]:
    """Return the rows that differ from `table`, and the pages that differ from the rows.

    `table` is the view as of position `until`; rows that have changed since are left out.
    """
    view, expected = table.view, rows_of(table)
    rows = {row[0]: StoredRow(*row[1:]) for row in found.rows}
    if view.delivery == "competing":  # where a row began depends on which consumer was first
        rows = {
            key: row._replace(started=expected[key].started if key in expected else -1)
            for key, row in rows.items()
        }
    differences = compare(store, view, expected, rows, until)
    return differences + compare_pages(store, view, asked, found)


def compare_pages(
    store: str, view: ViewDefinition, asked: Sequence[RowQuery], found: Snapshot
) -> list[Difference]:
    """Return the queries that the store answers differently than its own rows require."""
    bodies = {key: body for key, body, *_ in found.rows}
    texts = {key: view.listed(key, _texts(view, body)) for key, body in bodies.items()}
    lists = _Lists(view, [started for *_, started in found.rows], texts)
    differences = []
    for question, page in zip(asked, found.pages, strict=True):
        places, following = lists.page(question)
        wanted = page_json([bodies[place.key] for place in places], following)
        if page and page != wanted:  # without one, a row of it is a difference
            differences.append(
                Difference(store, view.name, _url(question), wanted.decode(), page.decode())
            )
    return differences


def _texts(view: ViewDefinition, body: bytes) -> tuple[str | None, ...]:
    """Return the text of each indexed field, from the document itself."""
    if not view.indexes:
        return ()
    try:
        row = _indexed_fields(view).model_validate_json(body, extra="ignore")
    except ValidationError:  # a fold has put an invalid value there: no filter finds it
        return tuple(None for _ in view.indexes)
    values = [getattr(row, field) for field in view.indexes]
    return tuple(None if value is None else key_text(value) for value in values)


@cache
def _indexed_fields(view: ViewDefinition) -> type[Message]:
    """Return a model of only the indexed fields, whatever the others have."""
    by_alias = view.model.model_config.get("serialize_by_alias", False)
    fields: Any = {}
    for field in view.indexes:
        info = view.model.model_fields[field]
        written = info.serialization_alias if by_alias else None
        fields[field] = (info.rebuild_annotation(), Field(validation_alias=written))
    return create_model("Indexed", __base__=Message, **fields)


class _Lists:
    """Rows in the order of pages: all, and by the value of each index."""

    def __init__(
        self,
        view: ViewDefinition,
        started: Sequence[int],
        texts: Mapping[str, tuple[str | None, ...]],
    ) -> None:
        self._view = view
        self._indexes = view.lists
        self._texts = texts
        self._all = sorted(map(Place, started, texts))
        self._by_value: list[dict[str, list[Place]]] = [{} for _ in view.lists]
        for place in self._all:
            for by_value, text in zip(self._by_value, texts[place.key], strict=True):
                if text is not None:
                    by_value.setdefault(text, []).append(place)

    def page(self, asked: RowQuery) -> tuple[list[Place], Start | None]:
        """Return the page's rows, and where the next one starts if there are more."""
        sought = self._view.sought(asked.filters)
        wanted = [(self._indexes.index(field), text) for field, text in sought.items()]
        lists = [self._by_value[at].get(text, []) for at, text in wanted]
        places = min(lists, key=len, default=self._all)
        found: list[Place] = []
        start = decode_cursor(asked.cursor)
        for at in start.in_list(places):
            if all(self._texts[places[at].key][index] == text for index, text in wanted):
                found.append(places[at])
            if len(found) > asked.limit:
                return found[:-1], start._replace(behind=found[-2])
        return found, None

    def sampled(self) -> Iterator[tuple[dict[str, str], list[Place]]]:
        """Yield lists with their filter texts, each with the places where its pages may begin."""
        if not self._view.tenants:  # otherwise there is no list of all rows
            yield {}, self._all
        for field, by_value in zip(self._indexes, self._by_value, strict=True):
            ranked = sorted(by_value, key=lambda value: (-len(by_value[value]), value))
            # The values with most rows, and those with fewest.
            for value in dict.fromkeys(ranked[:VALUES] + ranked[-VALUES:]):
                yield {field: value}, by_value[value]
        for one, first in enumerate(self._indexes):
            for other, second in enumerate(self._indexes[:one]):
                for left, right in self._pairs(one, other):
                    yield {first: left, second: right}, self._by_value[one][left]

    def _pairs(self, one: int, other: int) -> list[tuple[str, str]]:
        """Return values that some row has together; and two that usually no row has together."""
        pairs: dict[tuple[str, str], None] = {}
        for texts in self._texts.values():
            left, right = texts[one], texts[other]
            if left is not None and right is not None:
                pairs[left, right] = None
            if len(pairs) == VALUES:
                break
        found = list(pairs)
        return [*found, (found[0][0], found[-1][1])] if found else []


def _url(query: RowQuery) -> str:
    cursor = {"cursor": query.cursor} if query.cursor else {}
    return "?" + urlencode({**query.filters, "limit": query.limit, **cursor})
