"""The Postgres schemas of custom SQL projections, and their generations."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import asyncpg

from projections.errors import PostgresUnavailable
from projections.postgres import generations
from projections.postgres.generations import Connection, Live
from rayfold import SqlProjection
from rayfold.runtime.postgres import why

Projection = type[SqlProjection]


def live(projection: Projection) -> Live:
    """Return the projection as it is identified in `generations`."""
    relation = generations.relation_of(projection.name)
    return Live(projection.name, relation, "SCHEMA", fingerprint_of(projection))


def fingerprint_of(projection: Projection) -> str:
    """Return a text that changes whenever existing tables become unusable."""
    events = sorted(event.__rayfold__.name for event in projection.handlers)
    text = f"sql 1 {projection.version} {events} {projection.schema}"
    return blake2b(text.encode(), digest_size=5).hexdigest()


async def prepare(connection: Connection, projections: Sequence[Projection]) -> list[Projection]:
    """Create what is missing; return projections whose live tables are outdated or gone.

    Raises:
        asyncpg.PostgresError: a `schema` is wrong, or we may not create schemas.
    """
    async with connection.transaction():
        await generations.lock_migrations(connection)
        await connection.execute(generations.OWN)
        await generations.remove_unfinished(connection, "SCHEMA")
        stale = []
        for projection in projections:
            own = live(projection)
            known = await generations.fingerprint_of_live(connection, projection.name)
            if known is None:
                await _create(connection, projection, own.relation)
                await generations.become(connection, own)
            elif await generations.is_stale(connection, own, known):
                stale.append(projection)
    return stale


async def begin_generation(connection: Connection, projection: Projection) -> str:
    """Create empty tables beside the live ones, at position 0; return their schema's name."""
    async with connection.transaction():
        schema = await generations.name_next(connection, live(projection).relation)
        await _create(connection, projection, schema)
    return schema


async def _create(connection: Connection, projection: Projection, schema: str) -> None:
    # A schema of this name without our checkpoint belongs to another user: then this fails.
    await connection.execute(f'CREATE SCHEMA "{schema}"')
    await connection.execute(f'SET LOCAL search_path = "{schema}"')
    try:
        await connection.execute(projection.schema)
    except asyncpg.PostgresError as error:
        told = f"the schema of {projection.name!r} is refused: {why(error)}"
        raise PostgresUnavailable(told) from error
    await connection.execute("SET LOCAL search_path = DEFAULT")
    await generations.partition(connection, schema, 1)
