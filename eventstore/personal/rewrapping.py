"""Wraps all keys of persons with the first master key, if plain or wrapped with another one."""

from __future__ import annotations

import logging
from uuid import UUID

from eventstore.personal.master_keys import WRAPPED, Damaged, MasterKeys
from rayfold.runtime.postgres import Connection

log = logging.getLogger(__name__)

AT_ONCE = 1000

_OTHERS = (
    "SELECT id, subject, key FROM rayfold_personal_key WHERE key IS NOT NULL AND id > $3"
    " AND CASE octet_length($1::bytea) WHEN 0 THEN octet_length(key) = $2"
    " ELSE octet_length(key) <> $2 OR substring(key FROM 1 FOR octet_length($1)) <> $1 END"
    " ORDER BY id LIMIT $4"
)
_WRAP = (
    "UPDATE rayfold_personal_key AS known SET key = made.wrapped"
    " FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS made (id, before, wrapped)"
    " WHERE known.id = made.id AND known.key = made.before"
)
"""A key that was destroyed meanwhile stays destroyed."""


async def wrap_again(connection: Connection, masters: MasterKeys) -> int:
    """Store all keys in the form of new keys; return how many had another form.

    Raises:
        NoMasterKey: a master key is missing, or the file cannot be read.
    """
    beginning, number, last = masters.beginning, 0, UUID(int=0)
    while rows := await connection.fetch(_OTHERS, beginning, WRAPPED, last, AT_ONCE):
        last = rows[-1]["id"]
        made = []
        for id, subject, kept in rows:
            try:
                key = masters.unwrapped(kept, id, subject)
            except Damaged as error:
                log.error("%s", error)
                continue
            made.append((id, kept, masters.wrapped(key, id, subject)))
        if made:
            await connection.execute(_WRAP, *(list(each) for each in zip(*made, strict=True)))
        number += len(made)
    return number
