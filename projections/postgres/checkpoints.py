"""The checkpoints of partitions in Postgres, and the fence around them."""

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
    """Positions by table, for partition `partition` of `partitions`."""

    def __init__(
        self,
        tables: Iterable[str],
        partition: int,
        partitions: int,
        definitions: Mapping[str, str] | None = None,
    ) -> None:
        """`definitions` are fingerprints by name, of those of the tables that are live."""
        self._tables = list(tables)
        self._definitions = dict(definitions or {})
        self._place = (partition, partitions)
        self.positions: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        """By table: another number, another generation, though it may be as far as this one."""

    async def load(self, connection: Connection) -> None:
        """From what Postgres has, not from what this process believes.

        Raises:
            Fenced: the key space is partitioned in another way by now, or a table is gone or is
                that of another definition, as code of another release has built it.
        """
        records = await connection.fetch(_AS_STORED, self._tables, *self._place)
        if len(records) != len(self._tables):
            raise Fenced(_REPLACED)
        # After the epochs: whatever replaces a table later has another one.
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
        """Move the checkpoints, first of all in a transaction: who waits here holds no other lock.

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
        """Let one stay where it is until the transaction's end, whose rows change all the same.

        Raises:
            Fenced: another projector has moved it.
        """
        found = await connection.fetch(f"{_AS_STORED} FOR UPDATE", [table], *self._place)
        ours = [(table, self.positions[table], self._epochs[table])]
        if [tuple(each) for each in found] != ours:
            raise Fenced("another projector has moved the checkpoint")

    async def check(self, connection: Connection) -> None:
        """See that the tables are still those that were loaded, however far they have come.

        Raises:
            Fenced: a generation was replaced, or the key space is partitioned in another way.
        """
        found = await connection.fetch(_AS_STORED, self._tables, *self._place)
        if {each["table"]: each["epoch"] for each in found} != self._epochs:
            raise Fenced(_REPLACED)

    async def put_back(self, connection: Connection, to: Mapping[str, int]) -> None:
        """Within the same transaction: these came less far than `move` said."""
        await connection.executemany(
            "UPDATE rayfold_checkpoint SET position = $2"
            ' WHERE "table" = $1 AND partition = $3 AND partitions = $4',
            [(table, at, *self._place) for table, at in to.items()],
        )

    @property
    def slowest(self) -> int:
        """Where a subscription for all of them must begin."""
        return min(self.positions.values(), default=0)
