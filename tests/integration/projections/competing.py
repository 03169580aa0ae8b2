"""Views that competing consumers share, their tables, and what a plain fold gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import asyncpg
from pydantic import Field

from eventstore.records import RawRecord, recorded
from projections.postgres import schema
from projections.postgres.rows import Rows
from rayfold import Registry, VersionedRow, View, ViewDefinition, document, key_text, on
from tests.integration.projections import small
from tests.integration.projections.small import Added

DEADLINE = 60.0
SHOP = Registry.load("examples.shop")
BASKETS = SHOP.views["baskets"]
DEMAND = SHOP.views["demand"]


class Sums(View, name="sums", key="counter", stores=("postgres",), delivery="competing"):
    """A total for each counter; breaks on `broken` numbers, exits on even ones of these.

    Postgres breaks on others.
    """

    broken: ClassVar[set[int]] = set()
    counter: str
    total: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0  # a bigint

    @staticmethod
    @on(Added)
    def added(row: Sums, event: Added) -> Sums:
        if event.number in Sums.broken:
            mistake = ValueError if event.number % 2 else SystemExit
            raise mistake(f"cannot add {event.number}")
        return row.replace(total=row.total + event.number)


SMALL = Registry([small])
SUMS = Sums.__rayfold__
SMALL.views["sums"] = SUMS


@asynccontextmanager
async def database(dsn: str, *views: ViewDefinition, fresh: bool = True) -> AsyncIterator[Any]:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=8)
    async with pool.acquire() as connection:
        if fresh:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await schema.prepare(connection, views, {view.name: 1 for view in views})
    yield pool
    pool.terminate()


async def rows_in(pool: Any, view: ViewDefinition) -> dict[str, bytes]:
    rows = Rows(view)
    records = await pool.fetch(f'SELECT {rows.codec.select_list} FROM "{rows.table}" t')
    return {each["_key"]: document(rows.codec.decode(each)) for each in records}


def plainly(
    registry: Registry, view: ViewDefinition, history: Sequence[RawRecord]
) -> dict[str, bytes]:
    rows: dict[str, VersionedRow] = {}
    for raw in history:
        for event in recorded(registry, raw):
            for key in view.keys_of(event.event):
                row = view.fold(rows.get(key_text(key)), event, key)
                if row is not None:
                    rows[key_text(key)] = row
    return {key: document(entry) for key, entry in rows.items()}
