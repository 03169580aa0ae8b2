"""The checkpoints of one partition of some tables in Postgres, and their fencing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import asyncpg

from projections.errors import Fenced

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

_AS_STORED = (
    'SELECT "table", position, epoch FROM rayfold_checkpoint'
    ' WHERE "table" = ANY($1) AND partition = $2 AND partitions = $3'
)

_REPLACED = "the key space is partitioned in another way, or a generation replaced"


class Checkpoints:
    """Checkpoint positions by table, for partition `partition` of `partitions`."""

    def __init__(
        self,
        tables: Iterable[str],
        partition: int,
        partitions: int,
        definitions: Mapping[str, str] | None = None,
    ) -> None:
        """`definitions` has the fingerprints of live tables, by name."""
        self._tables = list(tables)
        self._definitions = dict(definitions or {})
        self._place = (partition, partitions)
        self.positions: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        """By table: the epoch, which differs between generations at the same position."""

    async def load(self, connection: Connection) -> None:
        """Load the checkpoints from Postgres.

        Raises:
            Fenced: the key space has another partitioning by now, or a table is gone or has another
                definition, as code of another release has built it.
        """
        records = await connection.fetch(_AS_STORED, self._tables, *self._place)
        if len(records) != len(self._tables):
            raise Fenced(_REPLACED)
        # Read after the epochs: a table that replaces another one later has another epoch.
        others = await connection.fetch(
            "SELECT v.view FROM rayfold_view v JOIN unnest($1::text[], $2::text[])"
            " AS own(name, fingerprint) ON v.view = own.name"
            " WHERE v.fingerprint <> own.fingerprint",
            list(self._definitions),
            list(self._definitions.values()),
        )
        if others:
            raise Fenced(f"another release has built {others[0]['view']!r}")
        self.positions = {record["table"]: record["position"] for record in records}
        self._epochs = {record["table"]: record["epoch"] for record in records}

    async def move(self, connection: Connection, to: Mapping[str, int]) -> None:
        """Move the checkpoints, first in a transaction: a writer waiting here holds no other lock.

        Raises:
            Fenced: another projector has moved one of them.
        """
        ahead = {table: at for table, at in to.items() if at > self.positions[table]}
        if not ahead:
            return
        moved = await connection.execute(
            "UPDATE rayfold_checkpoint c SET position = u.next"
            " FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])"
            " AS u(name, at, next, epoch)"
            ' WHERE c."table" = u.name AND c.partition = $5 AND c.partitions = $6'
            " AND c.position = u.at AND c.epoch = u.epoch",
            list(ahead),
            [self.positions[table] for table in ahead],
            list(ahead.values()),
            [self._epochs[table] for table in ahead],
            *self._place,
        )
        if moved != f"UPDATE {len(ahead)}":
            raise Fenced("another projector has moved the checkpoint")

    async def hold(self, connection: Connection, table: str) -> None:
        """Lock a checkpoint, without moving it, for a transaction that only changes rows.

        Raises:
            Fenced: another projector has moved it.
        """
        found = await connection.fetch(f"{_AS_STORED} FOR UPDATE", [table], *self._place)
        ours = [(table, self.positions[table], self._epochs[table])]
        if [tuple(each) for each in found] != ours:
            raise Fenced("another projector has moved the checkpoint")

    async def check(self, connection: Connection) -> None:
        """Check that the tables are still those that were loaded, whatever their positions.

        Raises:
            Fenced: a generation was replaced, or the key space has another partitioning.
        """
        found = await connection.fetch(_AS_STORED, self._tables, *self._place)
        if {each["table"]: each["epoch"] for each in found} != self._epochs:
            raise Fenced(_REPLACED)

    async def put_back(self, connection: Connection, to: Mapping[str, int]) -> None:
        """Set checkpoints to lower positions than `move` did, in the same transaction."""
        await connection.executemany(
            "UPDATE rayfold_checkpoint SET position = $2"
            ' WHERE "table" = $1 AND partition = $3 AND partitions = $4',
            [(table, at, *self._place) for table, at in to.items()],
        )

    @property
    def slowest(self) -> int:
        """Return where a subscription for all of them must begin."""
        return min(self.positions.values(), default=0)
