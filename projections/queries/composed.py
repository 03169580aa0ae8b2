"""Runs the handlers of composed queries: runs the queries that they yield, and returns the
results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import count
from typing import Any

import msgspec

from projections.errors import QueryFailed
from rayfold import ComposedQuery, Message, PageQuery, Query, SqlQuery, view_query_of
from rayfold.composed import MAX_ASKED
from rayfold.runtime.together import together

Ask = Callable[[Query], Awaitable[tuple[bytes | None, int]]]
"""Returns a query's document and position; raises the same as `QueryBus.ask`."""

_asked: ContextVar[count[int]] = ContextVar("queries asked for the outermost composed query")
"""Counts the queries, including those of nested ones: a query that yields itself twice would
otherwise never end.
"""

_document = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])


async def compose(query: ComposedQuery, ask: Ask) -> tuple[bytes | None, int]:
    """Return the result as JSON, or None, and the highest position of its answers.

    `ask` runs nested composed queries too.

    Raises:
        QueryFailed: the handler failed, returned a wrong type, or made too many queries.
        ProjectionError: as `ask` raises it.
    """
    if _asked.get(None) is not None:
        return await _compose(query, ask)
    outermost = _asked.set(count(1))
    try:
        return await _compose(query, ask)
    finally:
        _asked.reset(outermost)


async def _compose(query: ComposedQuery, ask: Ask) -> tuple[bytes | None, int]:
    handler, asked = query.handle(), _asked.get()
    answer: Any = None
    furthest = 0
    while True:
        try:
            wanted = handler.send(answer)
        except StopIteration as end:
            return _body(query, end.value), furthest
        except (Exception, SystemExit) as error:  # the domain's code may raise anything
            raise QueryFailed(f"{_name(query)!r} broke: {type(error).__name__}: {error}") from error
        queries = _queries(query, wanted)
        for _ in range(max(len(queries), 1)):  # otherwise it might yield no query forever
            if next(asked) > MAX_ASKED:
                raise QueryFailed(f"{_name(query)!r} asks more than {MAX_ASKED} queries")
        answers = await together(*map(ask, queries))
        furthest = max([furthest, *(position for _, position in answers)])
        rows = [rows_of(each, body) for each, (body, _) in zip(queries, answers, strict=True)]
        answer = rows[0] if isinstance(wanted, Query) else rows


def _queries(query: ComposedQuery, wanted: Any) -> list[Query]:
    asked = [wanted] if isinstance(wanted, Query) else wanted
    if not isinstance(asked, list | tuple) or not all(isinstance(each, Query) for each in asked):
        raise QueryFailed(
            f"{_name(query)!r} yields a {type(wanted).__name__}: a handler yields a query, or a"
            " list of them"
        )
    return list(asked)


def rows_of(query: Query, body: bytes | None) -> Any:
    """Return what a handler is sent for an answer: a typed row or None, or a list of typed rows."""
    if isinstance(query, ComposedQuery):
        return None if body is None else type(query).__rayfold__.result.model_validate_json(body)
    if body is None:
        return None
    if isinstance(query, PageQuery | SqlQuery):
        row_type: type[Message] = (
            type(query).__rayfold__.row
            if isinstance(query, SqlQuery)
            else view_query_of(query).view.model
        )
        items = _items.decode(_document.decode(body)["items"])
        return [_row(row_type, bytes(item)) for item in items]
    return _row(view_query_of(query).view.model, body)


def _row(row_type: Any, body: bytes) -> Any:
    fields = _document.decode(body)
    if "revision" not in row_type.model_fields:  # it is the store's own field
        fields.pop("revision", None)
    # Computed fields are in the document too.
    return row_type.model_validate_json(msgspec.json.encode(fields), extra="ignore")


def _body(query: ComposedQuery, result: Any) -> bytes | None:
    if result is None:
        return None
    if not isinstance(result, type(query).__rayfold__.result):
        raise QueryFailed(
            f"{_name(query)!r} gives a {type(result).__name__}, no result of its type"
        )
    body: bytes = result.__pydantic_serializer__.to_json(result)
    return body


def _name(query: Query) -> str:
    return type(query).__rayfold__.name
