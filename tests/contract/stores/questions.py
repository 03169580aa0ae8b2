"""What tests ask a store of the shelf."""

from __future__ import annotations

import json
from typing import Any

from eventstore.memory import MemoryLog
from projections.pages import Start, encode_cursor
from projections.row_query import RowQuery
from rayfold import key_text
from tests.contract.stores.subjects import Subject

Under = tuple[MemoryLog, Subject]
"""A log, and the store that is filled from it."""


def one(key: str, at_least: int = 0) -> RowQuery:
    """Ask for a row."""
    return RowQuery("shelf", key, at_least, {}, 0, None)


NEWEST = encode_cursor(Start(None, newest_first=True))
"""The cursor of the first page where the newest rows come first."""


def page(at_least: int = 0, limit: int = 50, cursor: str | None = None, **filters: Any) -> RowQuery:
    """Ask for the rows whose fields are so."""
    texts = {field: key_text(value) for field, value in filters.items()}
    return RowQuery("shelf", None, at_least, texts, limit, cursor)


async def ids(subject: Subject, query: RowQuery) -> list[str]:
    """Of all rows, page by page."""
    found: list[str] = []
    while True:
        answer = await subject.ask(query)
        said = json.loads(answer.body or b"")
        found += [row["id"] for row in said["items"]]
        assert len(said["items"]) <= query.limit
        if said["next_cursor"] is None:
            return found
        query = query._replace(cursor=said["next_cursor"])


async def painted(store: Subject, key: str, at_least: int) -> int:
    """How often a row was painted, once the store has come so far."""
    answer = await store.ask(one(key, at_least))
    return int(json.loads(answer.body or b"")["painted"])
