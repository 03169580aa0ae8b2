"""Postgres that answers queries, as a process that asks it has it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from projections.postgres import database
from projections.postgres.database import Database


async def test_two_that_ask_first_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Pool:
        """One that takes a moment to connect."""

        async def connected(self) -> Pool:
            await asyncio.sleep(0)
            made.append(self)
            return self

        async def fetch(self, statement: str) -> list[Any]:
            return [self]

    monkeypatch.setattr(database, "create_pool", lambda *_, **__: Pool().connected())
    postgres = Database("postgresql://nowhere", "postgres")
    found = await asyncio.gather(postgres.fetch("SELECT 1"), postgres.fetch("SELECT 1"))
    assert found == [made, made]
    assert len(made) == 1
