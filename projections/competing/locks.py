"""The locks in Postgres between consumers of one view.

Names are locked, not rows: a row that does not exist yet can be locked too. They are taken all at
once and in one order, so that consumers cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

MOST = 1_000
"""The most names in one transaction: Postgres holds the locks of all sessions in memory, some
10,000.
"""


async def lock(connection: Any, table: str, names: Iterable[tuple[str, str]]) -> None:
    """Lock these streams and rows of the table until the transaction's end.

    Each name has a kind, "stream" or "row". The table itself is locked too, against being replaced
    by another generation; if there are too many names, only the table is locked, exclusively.
    """
    numbers = sorted({_number(table, *name) for name in names})
    if len(numbers) > MOST:
        await lock_table(connection, table)
        return
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _number(table))
    # The array is in order, and `unnest` keeps it.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(n) FROM unnest($1::bigint[]) AS n", numbers
    )


async def lock_table(connection: Any, table: str) -> None:
    """Lock the table until the transaction's end: no consumer is within a transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _number(table))


def _number(*names: str) -> int:
    digest = blake2b("\n".join(("rayfold", *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
