"""Numbers of actors set by operators, in Postgres: the last `scale` outlives every process."""

from __future__ import annotations

from projections.errors import PostgresUnavailable
from rayfold.runtime.postgres import FAILURES, Connection, connected, why

TIMEOUT = 5.0
"""Seconds for Postgres to record it."""


async def load(connection: Connection) -> dict[str, int]:
    """Return the number of actors by target, if an operator has set it."""
    rows = await connection.fetch("SELECT target, number FROM rayfold_wanted ORDER BY target")
    return {row["target"]: row["number"] for row in rows}


async def note(dsn: str, target: str, number: int) -> None:
    """Record an operator's number, in place of earlier ones for parts of the target.

    Raises:
        PostgresUnavailable: it may not have been recorded.
    """
    try:
        async with (
            connected(dsn, timeout=TIMEOUT, command_timeout=TIMEOUT) as connection,
            connection.transaction(),
        ):
            await connection.execute(
                "DELETE FROM rayfold_wanted WHERE starts_with(target, $1)", f"{target}:"
            )
            await connection.execute(
                "INSERT INTO rayfold_wanted VALUES ($1, $2)"
                " ON CONFLICT (target) DO UPDATE SET number = excluded.number",
                target,
                number,
            )
    except FAILURES as error:
        raise PostgresUnavailable(
            f"{target} is {number} now, but may change back at a restart: {why(error)}"
        ) from error
