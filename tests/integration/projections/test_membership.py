"""What an actor does if it was given the wrong database."""

from __future__ import annotations

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections.errors import WrongStack
from projections.supervision.membership import Membership
from rayfold.runtime.identity import Identity

MEMBER = Identity(stack="ours")


async def test_a_database_belongs_to_this_stack_or_to_none(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    await connection.execute("DROP TABLE IF EXISTS rayfold_stack")
    await Membership(MEMBER, MemoryLog(), postgres).confirmed()
    await connection.execute("CREATE TABLE rayfold_stack (id text)")
    try:
        await Membership(MEMBER, MemoryLog(), postgres).confirmed()
        await connection.execute("INSERT INTO rayfold_stack VALUES ('ours')")
        await Membership(MEMBER, MemoryLog(), postgres).confirmed()
        await connection.execute("UPDATE rayfold_stack SET id = 'theirs'")
        with pytest.raises(WrongStack, match=r"another stack \(theirs, not ours\)"):
            await Membership(MEMBER, MemoryLog(), postgres).check()
    finally:
        await connection.execute("DROP TABLE rayfold_stack")
        await connection.close()
