"""Keys of subjects in Postgres, and their cache in a process.

The row of a destroyed key stays, without the key, so that an operator can prove who was forgotten
and when. Each forgetting replaces a mark, which is read on every use of keys: so a process with
cached keys learns in time that one was destroyed, without any notification.
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
"""Seconds for a connection or a statement."""

MOST = 100_000
"""The most keys in memory: some 30 MB."""

KEPT = 60.0
"""Seconds after the last use until a process drops its keys and its connection."""

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
"""A role may have synchronous commits off, for projections. A key must not be lost: what it has
encrypted is on the log permanently."""
_OF = (
    "SELECT id, subject, key FROM rayfold_personal_key"
    " WHERE subject = ANY($1::text[]) AND key IS NOT NULL"
)
_KNOWN = (
    "SELECT id, subject, key FROM rayfold_personal_key"
    " WHERE subject = ANY($1::text[]) AND (key IS NOT NULL OR key IS NULL AND cleared_at IS NULL)"
)
"""A subject without a key in the result is being forgotten."""
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
        """Whether an operator has declared missing keys lost: they count as destroyed."""
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
        """Drop all cached keys if one was destroyed since the last use; return the mark."""
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
        """Return a new key, in the form in which it is stored."""
        made = new_key(subject)
        return made._replace(key=self._masters.wrapped(made.key, made.id, subject))

    def _keys(self, rows: Iterable[Record]) -> list[SubjectKey]:
        """Return the existing keys; a damaged one is treated as unknown."""
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
                self._rest()  # a process that cannot check the mark must not use cached keys
                raise StoreUnavailable(
                    f"the keys of personal data cannot be read from Postgres: {why(error)}"
                ) from error
            finally:  # also after a cancellation: keys must not stay in memory
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
    """A destroyed key. `settled_at`: when the data decrypted with it was removed too."""

    id: UUID
    subject: str
    forgotten_at: datetime
    settled_at: datetime | None


class KeySet(NamedTuple):
    """The set of keys in a database. `lost`: an operator has declared some keys lost.

    `mark` changes with each forgetting, and when the database is restored.
    """

    id: UUID
    lost: bool
    mark: UUID


async def prepare_keys(connection: Connection) -> KeySet:
    """Create the tables of keys if they do not exist; return the set of keys."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7820171)")  # two may create it
        await connection.execute(TABLES)
        return await key_set(connection)


async def key_set(connection: Connection) -> KeySet:
    """Return the set of keys."""
    row = await connection.fetchrow(_KEY_SET)
    if row is None:
        raise StoreUnavailable(_EMPTY)
    return KeySet(*row)


async def keys_of(connection: Connection, subjects: Sequence[str]) -> set[UUID]:
    """Return the ids of the keys of these subjects."""
    rows = await connection.fetch(_OF, [storable(each) for each in subjects])
    return {row["id"] for row in rows}


async def destroy(connection: Connection, ids: Collection[UUID]) -> int:
    """Destroy keys; return how many of them still existed."""
    async with connection.transaction():
        await connection.execute(_DURABLY)
        done = await connection.execute(_DESTROY, [*ids])
        number = int(done.rpartition(" ")[2])
        if number:
            await connection.execute(_ANOTHER_MARK)
        return number


async def destroyed_of(connection: Connection, subjects: Sequence[str]) -> list[Destroyed]:
    """Return all destroyed keys of these subjects."""
    return _destroyed(await connection.fetch(_WAS, [storable(each) for each in subjects]))


async def unsettled(connection: Connection) -> list[Destroyed]:
    """Return the destroyed keys of which decrypted data may be left."""
    return _destroyed(await connection.fetch(_UNSETTLED))


async def clear(connection: Connection, ids: Collection[UUID]) -> None:
    """Note that decisions no longer use data decrypted with these keys: new keys may be made."""
    await connection.execute(_CLEAR, [*ids])


async def settle(connection: Connection, ids: Collection[UUID]) -> None:
    """Note that no data decrypted with these keys is left."""
    await connection.execute(_SETTLE, [*ids])


def _destroyed(rows: Sequence[Record]) -> list[Destroyed]:
    return [
        Destroyed(row["id"], restored(row["subject"]), row["forgotten_at"], row["settled_at"])
        for row in rows
    ]
