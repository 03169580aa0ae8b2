"""Middleware, each with something wrong."""

from __future__ import annotations

from typing import Any

from rayfold import Middleware


class Shouting(Middleware, name="Shouting", order=1):
    async def query(self, query: Any, context: Any, proceed: Any) -> Any:
        return await proceed(query)


class Synchronous(Middleware, name="synchronous", order=2):
    def command(self, command: Any, context: Any, proceed: Any) -> Any:  # type: ignore[override]
        return proceed(command)


class Mistyped(Middleware, name="mistyped", order=3):
    async def on_command(self, command: Any, context: Any, proceed: Any) -> Any:
        return await proceed(command)


class NeedsMore(Middleware, name="needs-more", order=4):
    def __init__(self, url: str) -> None:
        self.url = url

    async def query(self, query: Any, proceed: Any) -> Any:  # type: ignore[override]
        return await proceed(query)

    @staticmethod
    async def open() -> None: ...  # type: ignore[override]


class InOrder(Middleware, name="in-order", order="first"):  # type: ignore[arg-type]
    async def query(self, query: Any, context: Any, proceed: Any) -> Any:
        return await proceed(query)


class Beside(Middleware, name="synchronous", order=2):
    async def query(self, query: Any, context: Any, proceed: Any) -> Any:
        return await proceed(query)


class AlsoFirst(Middleware, name="also-first", order=1):
    async def query(self, query: Any, context: Any, proceed: Any) -> Any:
        return await proceed(query)
