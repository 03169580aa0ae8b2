"""Middleware of the ledger: notes whose commands and queries go through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rayfold import (
    Answer,
    Command,
    CommandContext,
    Middleware,
    Query,
    QueryContext,
    Receipt,
)

noted: list[tuple[str, str]] = []


class Whose(Middleware, name="whose"):
    async def command(
        self,
        command: Command,
        context: CommandContext,
        proceed: Callable[[Command], Awaitable[Receipt]],
    ) -> Receipt:
        noted.append((type(command).__rayfold__.name, context.tenant))
        return await proceed(command)

    async def query(
        self, query: Query, context: QueryContext, proceed: Callable[[Query], Awaitable[Answer]]
    ) -> Answer:
        noted.append((str(context.reading), context.tenant))
        return await proceed(query)
