"""Keys of subjects in Postgres, and what a process knows of them.

A destroyed key leaves its row, without the key: who was forgotten, and when, is an operator's to
prove. A mark that each forgetting replaces is read with each use: whoever has keys in memory learns
in time that one of them is no more, without anybody telling the processes of a stack.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

from asyncpg import Record

from eventstore.errors import StoreUnavailable
from eventstore.personal.forgotten import Forgotten
from eventstore.personal.keys import SubjectKey, new_key
from eventstore.personal.master_keys import Damaged, MasterKeys
from rayfold.runtime.postgres import BY_INDEX, FAILURES, Connection, LastingConnection, why
from rayfold.runtime.postgres_text import restored, storable

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds for a connection, or a statement."""

MOST = 100_000
"""Keys in memory; some 30 MB."""

KEPT = 60.0
"""Seconds for which a process that uses no key has any, and a connection."""

TABLES = """
CREATE TABLE IF NOT EXISTS rayfold_personal_key (
    id uuid PRIMARY KEY, subject text NOT NULL, key bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    forgotten_at timestamptz, cleared_at timestamptz, settled_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS rayfold_personal_key_of
    ON rayfold_personal_key (subject) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS rayfold_personal_key_was_of
    ON rayfold_personal_key (subject) WHERE key IS NULL;
CREATE INDEX IF NOT EXISTS rayfold_personal_key_left
    ON rayfold_personal_key (id) WHERE key IS NULL AND settled_at IS NULL;
CREATE TABLE IF NOT EXISTS rayfold_personal_forgotten (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), mark uuid NOT NULL DEFAULT gen_random_uuid(),
    id uuid NOT NULL DEFAULT gen_random_uuid(), lost boolean NOT NULL DEFAULT false
);
INSERT INTO rayfold_personal_forgotten DEFAULT VALUES ON CONFLICT DO NOTHING;
"""

_KEY_SET = "SELECT id, lost, mark FROM rayfold_personal_forgotten"
_EMPTY = "rayfold_personal_forgotten is empty: restore it with the keys"

_DURABLY = (
    "SELECT count(set_config('synchronous_commit', 'on', true)) FROM (SELECT 1) one"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
"""A role may have it off, for projections. But what a key has encrypted is on the log for good."""
_OF = (
    "SELECT id, subject, key FROM rayfold_personal_key"
    " WHERE subject = ANY($1::text[]) AND key IS NOT NULL"
)
_KNOWN = (
    "SELECT id, subject, key FROM rayfold_personal_key"
    " WHERE subject = ANY($1::text[]) AND (key IS NOT NULL OR key IS NULL AND cleared_at IS NULL)"
)
"""Without a key: they are being forgotten."""
_MAKE = (
    f"WITH durably AS MATERIALIZED ({_DURABLY})"
    " INSERT INTO rayfold_personal_key (id, subject, key) SELECT made.* FROM durably,"
    " unnest($1::uuid[], $2::text[], $3::bytea[]) AS made (id, subject, key)"
    " ON CONFLICT (subject) WHERE key IS NOT NULL DO NOTHING RETURNING id, subject, key"
)
_BY_ID = "SELECT id, subject, key FROM rayfold_personal_key WHERE id = ANY($1::uuid[])"
_DESTROY = (
    "UPDATE rayfold_personal_key SET key = NULL, forgotten_at = now()"
    " WHERE id = ANY($1::uuid[]) AND key IS NOT NULL"
)
_ANOTHER_MARK = "UPDATE rayfold_personal_forgotten SET mark = gen_random_uuid()"
_WAS = (
    "SELECT id, subject, forgotten_at, settled_at FROM rayfold_personal_key"
    " WHERE subject = ANY($1::text[]) AND key IS NULL ORDER BY forgotten_at"
)
_UNSETTLED = (
    "SELECT id, subject, forgotten_at, settled_at FROM rayfold_personal_key"
    " WHERE key IS NULL AND settled_at IS NULL"
)
_CLEAR = "UPDATE rayfold_personal_key SET cleared_at = now() WHERE id = ANY($1::uuid[])"
_SETTLE = "UPDATE rayfold_personal_key SET settled_at = now() WHERE id = ANY($1::uuid[])"


class PostgresKeys:
    """See `SubjectKeys` for what each method promises."""

    def __init__(self, dsn: str) -> None:
        self._masters = MasterKeys()
        self._connection = LastingConnection(
            dsn, timeout=TIMEOUT, command_timeout=TIMEOUT, server_settings=BY_INDEX
        )
        self._asking = asyncio.Lock()
        self._mark: UUID | None = None
        self._lost = False
        """Whether an operator has said that what is missing is lost: it is as if forgotten."""
        self._by_id: OrderedDict[UUID, SubjectKey] = OrderedDict()
        self._gone: set[UUID] = set()
        self._of: dict[str, SubjectKey] = {}
        self._resting: asyncio.TimerHandle | None = None
        self._closed = False

    async def to_write(self, subjects: Collection[str]) -> dict[str, SubjectKey]:
        """See `SubjectKeys.to_write`."""

        async def found(connection: Connection) -> dict[str, SubjectKey]:
            await self._learn(connection)
            held = {each: key for each in subjects if (key := self._of.get(each)) is not None}
            if missing := [each for each in subjects if each not in held]:
                held |= await self._made(connection, missing)
            return held

        return await self._ask(found)

    async def to_read(self, ids: Collection[UUID]) -> dict[UUID, SubjectKey | None]:
        """See `SubjectKeys.to_read`."""

        async def found(connection: Connection) -> dict[UUID, SubjectKey | None]:
            await self._learn(connection)
            held: dict[UUID, SubjectKey | None] = dict.fromkeys(self._gone.intersection(ids))
            held |= {each: key for each in ids if (key := self._by_id.get(each)) is not None}
            if missing := [each for each in ids if each not in held]:
                rows = await connection.fetch(_BY_ID, missing)
                there = self._keys(rows)
                gone = [row["id"] for row in rows if row["key"] is None]
                self._gone.update(gone)
                self._remember(there)
                if self._lost:
                    held |= dict.fromkeys(missing)
                held |= {each.id: each for each in there} | dict.fromkeys(gone)
            return held

        return await self._ask(found)

    async def forgotten(self) -> Forgotten:
        """See `SubjectKeys.forgotten`."""

        async def found(connection: Connection) -> Forgotten:
            mark = await self._learn(connection)
            return Forgotten(mark.hex, not await unsettled(connection))

        return await self._ask(found)

    async def _learn(self, connection: Connection) -> UUID:
        """Know no key any more if one was destroyed since the last time; return the mark."""
        _, self._lost, mark = await key_set(connection)
        if mark != self._mark:
            self._drop()
            self._mark = mark
        return mark

    async def _made(self, connection: Connection, subjects: Sequence[str]) -> dict[str, SubjectKey]:
        rows = await connection.fetch(_KNOWN, [storable(each) for each in subjects])
        found = self._keys(rows)
        known = {row["subject"] for row in rows}
        if lacking := {storable(each) for each in subjects} - known:
            columns = zip(*map(self._new, sorted(lacking)), strict=True)
            made = await connection.fetch(_MAKE, *(list(each) for each in columns))
            if others := lacking - {row["subject"] for row in made}:
                made += await connection.fetch(_OF, [*others])
            found += self._keys(made)
        self._of |= {each.subject: each for each in found}
        self._remember(found)
        return {each.subject: each for each in found}

    def _new(self, subject: str) -> SubjectKey:
        """Return a new key, as it is kept."""
        made = new_key(subject)
        return made._replace(key=self._masters.wrapped(made.key, made.id, subject))

    def _keys(self, rows: Iterable[Record]) -> list[SubjectKey]:
        """Return the keys that are there; one that is damaged is as one that nobody knows."""
        found = []
        for row in rows:
            id, subject, kept = row["id"], row["subject"], row["key"]
            if kept is None:
                continue
            try:
                key = self._masters.unwrapped(kept, id, subject)
            except Damaged as error:
                log.error("%s", error)
            else:
                found.append(SubjectKey(id, restored(subject), key))
        return found

    def _remember(self, keys: Iterable[SubjectKey]) -> None:
        self._by_id |= {each.id: each for each in keys}
        while len(self._by_id) > MOST:
            _, key = self._by_id.popitem(last=False)
            self._of.pop(key.subject, None)
        if len(self._gone) > MOST:
            self._gone.clear()

    def _drop(self) -> None:
        self._by_id.clear()
        self._of.clear()
        self._gone.clear()

    async def _ask(self, ask: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._asking:
            if self._resting is not None:
                self._resting.cancel()
            try:
                return await ask(await self._connection.get())
            except (*FAILURES, ValueError) as error:
                self._rest()  # who cannot ask may not know either
                raise StoreUnavailable(
                    f"the keys of personal data cannot be had from Postgres: {why(error)}"
                ) from error
            finally:  # also where whoever asks was cancelled: keys must not stay then
                if self._closed:  # meanwhile
                    self._rest()
                else:
                    self._resting = asyncio.get_running_loop().call_later(KEPT, self._rest)

    def _rest(self) -> None:
        self._drop()
        self._connection.close()

    def close(self) -> None:
        """See `SubjectKeys.close`."""
        self._closed = True
        if self._resting is not None:
            self._resting.cancel()
        self._rest()


class Destroyed(NamedTuple):
    """A key that is no more. `settled_at`: when what had been decrypted with it was gone too."""

    id: UUID
    subject: str
    forgotten_at: datetime
    settled_at: datetime | None


class KeySet(NamedTuple):
    """Which set of keys a database has. `lost`: an operator has said that some are for good.

    `mark` is another one after each forgetting, and wherever the database was restored.
    """

    id: UUID
    lost: bool
    mark: UUID


async def prepare_keys(connection: Connection) -> KeySet:
    """Make the tables of keys where they are not there; return which set of keys it is."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7820171)")  # two who make one
        await connection.execute(TABLES)
        return await key_set(connection)


async def key_set(connection: Connection) -> KeySet:
    """Return which set of keys it is."""
    row = await connection.fetchrow(_KEY_SET)
    if row is None:
        raise StoreUnavailable(_EMPTY)
    return KeySet(*row)


async def keys_of(connection: Connection, subjects: Sequence[str]) -> set[UUID]:
    """Return the keys that subjects have."""
    rows = await connection.fetch(_OF, [storable(each) for each in subjects])
    return {row["id"] for row in rows}


async def destroy(connection: Connection, ids: Collection[UUID]) -> int:
    """Destroy keys; return how many were there still."""
    async with connection.transaction():
        await connection.execute(_DURABLY)
        done = await connection.execute(_DESTROY, [*ids])
        number = int(done.rpartition(" ")[2])
        if number:
            await connection.execute(_ANOTHER_MARK)
        return number


async def destroyed_of(connection: Connection, subjects: Sequence[str]) -> list[Destroyed]:
    """Return all keys that were ever destroyed of subjects."""
    return _destroyed(await connection.fetch(_WAS, [storable(each) for each in subjects]))


async def unsettled(connection: Connection) -> list[Destroyed]:
    """Return the keys of which decrypted values may be left."""
    return _destroyed(await connection.fetch(_UNSETTLED))


async def clear(connection: Connection, ids: Collection[UUID]) -> None:
    """Note that nobody decides on what was decrypted with these keys: there may be new ones."""
    await connection.execute(_CLEAR, [*ids])


async def settle(connection: Connection, ids: Collection[UUID]) -> None:
    """Note that nothing that was decrypted with these keys is left."""
    await connection.execute(_SETTLE, [*ids])


def _destroyed(rows: Sequence[Record]) -> list[Destroyed]:
    return [
        Destroyed(row["id"], restored(row["subject"]), row["forgotten_at"], row["settled_at"])
        for row in rows
    ]
