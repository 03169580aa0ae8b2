"""Runs a domain's middleware around queries and around all other ways to read the same rows."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from api.http.endpoint import Call
from api.http.headers import text
from api.http.middleware import sender_of
from api.http.problems import unavailable
from rayfold import Answer, Query, QueryContext, Reading
from rayfold.runtime.deadlines import Deadlines
from rayfold.runtime.middleware_layers import DomainMiddleware, Layers, too_late

TIMEOUT = 10.0
"""Seconds that middleware may take, in addition to those of the store."""

Ask = Callable[[Query], Awaitable[Answer]]


class QueryMiddleware:
    """Asks queries through a domain's middleware."""

    def __init__(self, layers: Layers[Query, Answer]) -> None:
        self._layers = layers
        self._deadlines = Deadlines()

    @classmethod
    def of(cls, middleware: DomainMiddleware) -> QueryMiddleware | None:
        """Return the middleware around a domain's queries; None if there is none."""
        layers = middleware.around("query")
        return None if layers is None else cls(layers)

    async def ask(
        self, call: Call, query: Query, ask: Ask, reading: Reading, timeout: float = 0.0
    ) -> Answer:
        """Return the answer of `ask`, which takes at most `timeout` seconds, through middleware.

        Raises:
            Refused: a middleware refused.
            MiddlewareFailed: a middleware failed.
            Problem: 503 if it took too long.
            Exception: whatever `ask` raises.
        """
        sender = sender_of(call)
        context = QueryContext(
            principal=call.principal,
            tenant=call.tenant,
            role=sender.role,
            permissions=sender.permissions,
            correlation_id=text(call.headers, b"x-correlation-id"),
            headers=sender.headers,
            reading=reading,
            store=text(call.headers, b"rayfold-store").lower(),
        )
        ends = _QueryEnds(query, ask)
        try:
            with self._deadlines.until(time.monotonic() + timeout + TIMEOUT):
                return await self._layers.run(query, context, ends)
        except TimeoutError:
            told = too_late(ends, "the query's deadline has passed")
            raise unavailable("query-timeout", told) from None


class _QueryEnds:
    lasts = False
    at = ""

    def __init__(self, query: Query, ask: Ask) -> None:
        self._query = query
        self._wanted = type(query)
        self._ask = ask

    def checked(self, asked: Query) -> Query:
        """Return the query, validated as the client's own was."""
        if type(asked) is not self._wanted:
            kind = type(asked).__name__
            raise ValueError(f"called proceed with a {kind}, not with a {self._wanted.__name__}")
        if asked == self._query:
            return asked  # validators may change an already validated value again
        try:
            return self._wanted.model_validate(dict(asked))
        except ValueError as error:
            name = self._wanted.__rayfold__.name
            raise ValueError(
                f"called proceed with a {name} that is not valid, see the log"
            ) from error

    async def last(self, asked: Query) -> Answer:
        """Ask a store."""
        return await self._ask(asked)

    def did_nothing(self, error: BaseException) -> bool:
        """Return True: a query changes nothing."""
        return True

    def accepted(self, answer: Any, given: Sequence[Answer]) -> Answer:
        """Return the answer with the store's position, perhaps with another body."""
        kind = type(answer).__name__
        if not isinstance(answer, Answer) or not isinstance(answer.body, bytes | None):
            raise ValueError(f"returned a {kind}: return the answer that proceed returned")
        for each in given:
            if answer == each:
                return each
        if all(answer.position != each.position for each in given):
            raise ValueError(
                "returned an answer that proceed did not return: only its body may be changed"
            )
        # The entity tag has the row's revision, which does not identify another body.
        return answer._replace(revision=None)
