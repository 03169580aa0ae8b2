"""Executes the statements of handlers: in order, in few round trips, and finds the failing one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from eventstore.records import RawRecord
from projections.poison import is_poison
from projections.sql.parameters import parameters_of
from rayfold import Statement

if TYPE_CHECKING:
    from projections.postgres.checkpoints import Connection


class Work(NamedTuple):
    """The statements of one event."""

    raw: RawRecord
    statements: Sequence[Statement]


async def execute(
    connection: Connection, schema: str, work: Sequence[Work], timeout: float | None = None
) -> None:
    """Run all statements, in order, on the tables of one schema, within a transaction.

    `timeout` is in seconds, for each round trip; by default the connection's.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError: a statement failed; none has had an effect.
    """
    statements = [statement for each in work for statement in each.statements]
    async with connection.transaction():
        await connection.execute(f'SET LOCAL search_path = "{schema}"')
        # Repetitions of a statement with other parameters take one round trip.
        for text, same in groupby(statements, key=lambda statement: statement.text):
            await connection.executemany(
                text, [parameters_of(each) for each in same], timeout=timeout
            )
        await connection.execute("SET LOCAL search_path = DEFAULT")


async def first_failure(
    connection: Connection, schema: str, work: Sequence[Work], timeout: float | None = None
) -> tuple[int, Exception] | None:
    """Execute one event after the other, up to the first that fails.

    Return its index in `work`, and the error; the events before it are done. None if none fails.
    """
    for at, each in enumerate(work):
        try:
            await execute(connection, schema, [each], timeout)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not is_poison(error):
                raise
            return at, error
    return None
