"""Parked rows and the events that wait behind them, in Postgres: see `postgres_text`.

Streams that are parked as a whole are stored too; their later events are found by reading them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import asyncpg

from projections.newly_parked import NewlyParked
from projections.parked_pages import Asked, in_order
from projections.poison import NAMED, Held, Parked
from rayfold.runtime.postgres_text import restored, storable


async def save(
    connection: Any,
    tables: Mapping[str, str],
    parked: Collection[Parked],
    held: Collection[Held] = (),
) -> None:
    """Store what was parked, and the places of waiting events; `tables` has each view's table."""
    if parked:
        await connection.executemany(
            "INSERT INTO rayfold_parked VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT DO NOTHING",
            [(tables[each.view], _text(each.key), *_place(each)) for each in parked],
        )
    if held:
        await connection.executemany(
            "INSERT INTO rayfold_held VALUES ($1,$2,$3,$4,$5) ON CONFLICT DO NOTHING",
            [
                (tables[each.view], _text(each.key), storable(each.stream), *each[3:])
                for each in held
            ],
        )


async def load(connection: Any, views: Mapping[str, str]) -> list[Parked]:
    """Return everything parked in these tables; `views` has each table's view."""
    records = await connection.fetch(
        'SELECT * FROM rayfold_parked WHERE "table" = ANY($1)', list(views)
    )
    return [_parked(views, record) for record in records]


_PAGE = (
    'SELECT * FROM rayfold_parked WHERE "table" = $1 AND position = $2 UNION ALL'
    ' (SELECT * FROM rayfold_parked WHERE "table" = $1 AND position > $2'
    " ORDER BY position FETCH FIRST ($3) ROWS WITH TIES)"
)
"""A page includes all or none of what one event has parked: Postgres may order keys in another way.

It uses an index that begins with the position. One that began with the table would seem to Postgres
as good as the one by which a batch finds its rows.
"""


_UNDER = 'SELECT * FROM rayfold_parked WHERE "table" = $1 AND (key = ANY($2) OR stream = $3)'


async def listed(connection: Any, table: str, view: str, asked: Asked) -> list[Parked]:
    """Return what is parked in a table, `in_order`, as far as `Asked.of` needs it."""
    if asked.among:
        return in_order(await among(connection, table, view, asked.among, asked.among))
    if asked.key:
        stream = storable(asked.key)  # or a row's key as displayed, in which form it is stored
        found = await connection.fetch(_UNDER, table, [_text(asked.key), stream], stream)
        return in_order(_parked({table: view}, each) for each in found)
    if not asked.limit:
        return in_order(await load(connection, {table: view}))
    records = await connection.fetch(_PAGE, table, asked.after[0], asked.limit + 1)
    return in_order(_parked({table: view}, record) for record in records)


_AMONG = (
    'SELECT * FROM rayfold_parked WHERE "table" = $1'
    " AND md5(key) = ANY(ARRAY(SELECT md5(each) FROM unnest($2::text[]) AS each))"
    " UNION ALL SELECT * FROM rayfold_parked WHERE \"table\" = $1 AND md5(key) = md5('')"
    " AND md5(stream) = ANY(ARRAY(SELECT md5(each) FROM unnest($3::text[]) AS each))"
)


async def among(
    connection: Any, table: str, view: str, keys: Iterable[str], streams: Iterable[str]
) -> list[Parked]:
    """Return which of these are parked; streams are those that are parked as a whole.

    There may be as many parked rows as rows, if a fold failed on each of them.
    """
    records = await connection.fetch(
        _AMONG, table, [_text(key) for key in keys], [storable(stream) for stream in streams]
    )
    return [_parked({table: view}, record) for record in records]


async def first(connection: Any, table: str, view: str) -> tuple[int, list[Parked]]:
    """Return the number of parked entries of a table, and the first ones in the log's order."""
    records = await connection.fetch(
        'SELECT *, (SELECT count(*) FROM rayfold_parked WHERE "table" = $1) AS total'
        ' FROM rayfold_parked WHERE "table" = $1 ORDER BY position, key LIMIT $2',
        table,
        NAMED,
    )
    parked = [_parked({table: view}, record) for record in records]
    return (records[0]["total"] if records else 0), parked


_NEWLY = """
SELECT built.*, count(*) OVER () AS total FROM rayfold_parked AS built
WHERE built."table" = $2
AND built.position <= (SELECT min(position) FROM rayfold_checkpoint WHERE "table" = $1)
AND NOT EXISTS (SELECT FROM rayfold_parked AS live
    WHERE live."table" = $1 AND built.key <> '' AND md5(live.key) = md5(built.key)
    AND live.position <= built.position)
AND NOT EXISTS (SELECT FROM rayfold_parked AS live
    WHERE live."table" = $1 AND live.key = '' AND md5(live.key) = md5('')
    AND md5(live.stream) = md5(built.stream) AND live.position <= built.position)
ORDER BY built.position, built.key LIMIT 1
"""


async def newly_parked(connection: Any, view: str, live: str, built: str) -> NewlyParked | None:
    """Return what is parked of a view in the table `built` and not in `live`.

    Like `newly_parked.Comparison`, but as of one moment, and without reading what is in both.
    """
    found = await connection.fetch(_NEWLY, live, built)  # `fetchrow` would not get a parallel plan
    return NewlyParked(found[0]["total"], _parked({built: view}, found[0])) if found else None


async def release(connection: Any, table: str, parked: Parked) -> list[Held]:
    """Remove a parked row; return the events that waited behind it, in the log's order."""
    records = await connection.fetch(
        'SELECT * FROM rayfold_held WHERE "table" = $1 AND md5(key) = md5($2) ORDER BY position',
        table,
        _text(parked.key),
    )
    await forget(connection, table, parked)
    return [
        Held(parked.view, parked.key, restored(each["stream"]), each["revision"], each["position"])
        for each in records
    ]


async def forget(connection: Any, table: str, parked: Parked) -> bool:
    """Remove a parked row and what waits behind it; return False if it was gone already."""
    gone = [
        await connection.execute(
            f'DELETE FROM {own} WHERE "table" = $1 AND md5(key) = md5($2)', table, _text(parked.key)
        )
        for own in ("rayfold_parked", "rayfold_held")
    ]
    return bool(gone[0] != "DELETE 0")


async def erase(connection: Any, tables: Mapping[str, str], parked: Collection[Parked]) -> None:
    """Remove what was parked of deleted streams, with what waits behind it."""
    for each in parked:
        if each.key:
            await forget(connection, tables[each.view], each)
        else:
            await connection.execute(
                "DELETE FROM rayfold_parked WHERE \"table\" = $1 AND md5(key) = md5('')"
                " AND md5(stream) = md5($2)",
                tables[each.view],
                storable(each.stream),
            )


def _parked(views: Mapping[str, str], record: asyncpg.Record) -> Parked:
    return Parked(
        views[record["table"]],
        json.loads(f'"{restored(record["key"])}"'),
        restored(record["stream"]),
        record["revision"],
        record["position"],
        record["error"],
        record["by_store"],
    )


def _place(parked: Parked) -> tuple[str, int, int, str, bool]:
    stream, error = storable(parked.stream), parked.error.replace("\x00", "\\0")
    return stream, parked.revision, parked.position, error, parked.by_store


def _text(key: str) -> str:
    """Return the key as Postgres stores it: text that it cannot store may be why it is parked."""
    return storable(json.dumps(key, ensure_ascii=False)[1:-1])
