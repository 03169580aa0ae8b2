"""A domain's middleware at work: one around the other, in one process.

Nothing here knows what a command or a query is: who has one says what may go on and what may come
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from rayfold import DomainError, Middleware, MiddlewareDefinition, Refused, Registry
from rayfold.errors import MiddlewareFailed

log = logging.getLogger(__name__)

CLOSING = 5.0
"""Seconds for one to close."""

Asked = TypeVar("Asked")
Given = TypeVar("Given")

Around = Callable[[Any, Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]


class Ends(Protocol[Asked, Given]):
    """What is around of all middleware, of one run: what may go on, and what may come back."""

    lasts: bool
    """Whether what was given stands: it cannot be refused any more."""
    at: str
    """The middleware that is at work; empty while it is none of them."""

    def checked(self, asked: Asked) -> Asked:
        """Return what is gone on with, validated.

        Raises:
            ValueError: nobody may go on with that.
        """
        ...

    async def last(self, asked: Asked) -> Given:
        """Send it, or ask it, after the last middleware."""
        ...

    def accepted(self, answer: Any, given: Sequence[Given]) -> Given:
        """Return what a middleware answers, having been given these.

        Raises:
            ValueError: that is no answer.
        """
        ...


class Layers(Generic[Asked, Given]):
    """The middleware around commands, or around queries, outermost first."""

    def __init__(
        self, around: Sequence[tuple[str, Around]], opened: Callable[[], Awaitable[None]]
    ) -> None:
        self._around = around
        self._opened = opened

    async def run(self, asked: Asked, context: Any, ends: Ends[Asked, Given]) -> Given:
        """Return what all of it gives.

        Raises:
            Refused: one of them said no.
            MiddlewareFailed: one of them broke, or did what none may.
            Exception: whatever `ends.last` raises, where none of them made something else of it.
        """
        ends.at = self._around[0][0]
        await self._opened()
        return await self._from(0, asked, context, ends)

    async def _from(self, at: int, asked: Asked, context: Any, ends: Ends[Asked, Given]) -> Given:
        if at == len(self._around):
            ends.at = ""
            return await ends.last(asked)
        name, around = self._around[at]
        given: list[Given] = []
        passing: list[BaseException] = []
        over = False

        async def proceed(changed: Asked) -> Given:
            if over:
                raise _failed(name, "went on after its end, when nobody waited any more")
            try:
                onwards = ends.checked(changed)
            except ValueError as error:
                raise _failed(name, str(error), error.__cause__) from error
            try:
                gave = await self._from(at + 1, onwards, context, ends)
            except BaseException as error:
                passing.append(error)
                if not isinstance(error, asyncio.CancelledError):  # that stays where it was
                    ends.at = name
                raise
            ends.at = name
            given.append(gave)
            return gave

        ends.at = name
        try:
            answer = await around(asked, context, proceed)
        except MiddlewareFailed:
            raise
        except Refused as refusal:
            if ends.lasts and given:
                reason = f"refused ({refusal.rule}) what was done already"
                raise _failed(name, reason, done=True) from refusal
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # a user's code
            if any(error is each for each in passing) or _is_cancelled(error):
                raise  # not its own
            reason = f"broke: {type(error).__name__}, see the log"
            raise _failed(name, reason, error, done=ends.lasts and bool(given)) from error
        finally:
            over = True
        try:
            return ends.accepted(answer, given)
        except ValueError as error:
            raise _failed(name, str(error), done=ends.lasts and bool(given)) from error


def too_late(ends: Ends[Any, Any], told: str) -> str:
    """Return what is told of a deadline that has passed: whose time it was, if a middleware's.

    What a deadline ends is a cancelled task: it is still where it was.
    """
    if not ends.at:
        return told
    log.warning("a middleware took too long", extra={"middleware": ends.at})
    return f"{told}, in the domain's middleware {ends.at!r}"


class DomainMiddleware:
    """One instance of each of a domain's, in this process, for whoever sends or asks here.

    `around("command")` and `around("query")` are None where the domain has none: then nothing is
    around anything.
    """

    def __init__(self, registry: Registry) -> None:
        declared = sorted(registry.middleware.values(), key=lambda each: each.order)
        self._made = [(each, _made(each)) for each in declared]
        self._opening = asyncio.Lock()
        self._open: list[Middleware] = []

    def around(self, method: str) -> Layers[Any, Any] | None:
        """Return those that have that method, or None."""
        found = [
            (each.name, getattr(made, method)) for each, made in self._made if each.has(method)
        ]
        return Layers(found, self._opened) if found else None

    async def close(self) -> None:
        """Close those that were opened, the innermost first. One that breaks is told in the log."""
        while self._open:
            made = self._open.pop()
            try:
                async with asyncio.timeout(CLOSING):
                    await made.close()
            except (Exception, SystemExit):  # a user's code
                log.exception("a middleware does not close", extra={"middleware": _name(made)})

    async def _opened(self) -> None:
        """Open what is not open yet; what did not open is tried again by whoever comes next."""
        if len(self._open) == len(self._made):
            return
        async with self._opening:
            for definition, made in self._made[len(self._open) :]:
                try:
                    await made.open()
                except (Exception, SystemExit) as error:  # a user's code
                    reason = f"does not open: {type(error).__name__}, see the log"
                    raise _failed(definition.name, reason, error) from error
                self._open.append(made)


def _is_cancelled(error: BaseException) -> bool:
    """Tell whether it is this task that somebody cancels, and not one that a middleware awaits."""
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError)
    return cancelled and task is not None and task.cancelling() > 0


def _made(definition: MiddlewareDefinition) -> Middleware:
    try:
        return definition.model()
    except (Exception, SystemExit) as error:  # a user's code
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DomainError(f"{definition.model.__qualname__} cannot be made: {told}") from error


def _name(made: Middleware) -> str:
    return type(made).__rayfold__.name


def _failed(
    name: str, reason: str, error: BaseException | None = None, *, done: bool = False
) -> MiddlewareFailed:
    extra = {"middleware": name, "reason": reason}
    log.error("a middleware failed", exc_info=error, extra=extra)
    return MiddlewareFailed(name, reason, done)
