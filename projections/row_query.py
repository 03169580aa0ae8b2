"""Queries for rows as they are sent to a store, and their answers."""

from __future__ import annotations

from typing import NamedTuple

from projections.errors import BadCursor, BadQuery
from projections.pages import Start, decode_cursor, encode_cursor
from rayfold import PageQuery, Query, key_text, view_query_of
from rayfold.tenants import TENANT, within

_NEWEST = encode_cursor(Start(None, newest_first=True))


class RowQuery(NamedTuple):
    """Requests one row by `key`, or a page if `key` is None.

    `at_least` is the position that the answer must have reached. Key and filters are in the form of
    `rayfold.key_text`.
    """

    view: str
    key: str | None
    at_least: int
    filters: dict[str, str]
    limit: int
    cursor: str | None
    """Where the page starts, and in which direction: see `projections.pages`."""


class RowResult(NamedTuple):
    """An answer. `late`: the replica has not reached `at_least`, so there is no other content."""

    body: bytes | None
    revision: int | None
    position: int
    late: bool = False


class Snapshot(NamedTuple):
    """A view in a store at one moment: its rows, and a page for each query."""

    rows: list[tuple[str, bytes, int, int]]
    """For each row: key, document, position, and where it began."""
    pages: list[bytes]
    """Empty where the store cannot give it, as one of its rows does not decode."""


def row_query(query: Query, at_least: int, tenant: str) -> RowQuery:
    """Return what a query of a view asks a store for.

    Raises:
        BadQuery: a value is none that a store could have.
        BadCursor: it is none of ours, or one of pages in the other order.
    """
    asked = view_query_of(query)
    name = asked.view.name
    if not isinstance(query, PageQuery):
        key = within(tenant, text_of(query, asked.view.key))
        return RowQuery(name, key, at_least, {}, 0, None)
    filters = {field: text_of(query, field) for field in asked.filters(query)}
    if tenant:
        filters[TENANT] = tenant
    cursor = query.cursor
    if not cursor:
        cursor = _NEWEST if asked.newest_first else None
    elif decode_cursor(cursor).newest_first != asked.newest_first:
        raise BadCursor(f"a cursor of pages in the other order: {cursor!r}")
    return RowQuery(name, None, at_least, filters, query.limit, cursor)


def text_of(query: Query, field: str) -> str:
    """Return a value of a query as stores compare it.

    Raises:
        BadQuery: it has none: its type takes more than any store does.
    """
    try:
        return key_text(getattr(query, field))
    except ValueError as error:
        name = type(query).__rayfold__.name
        raise BadQuery(f"{name!r} does not accept {field}: {error}") from error
