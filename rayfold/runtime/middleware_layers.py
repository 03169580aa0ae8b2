"""Runs a domain's middleware, one around the other, in one process.

Nothing here depends on whether it is a command or a query: the caller's `Ends` check what may be
passed on and what may be returned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from rayfold import DomainError, Middleware, MiddlewareDefinition, Refused, Registry
from rayfold.errors import MiddlewareFailed

log = logging.getLogger(__name__)

CLOSING = 5.0
"""Seconds that one middleware has to close."""

Asked = TypeVar("Asked")
Given = TypeVar("Given")

Around = Callable[[Any, Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]


class Ends(Protocol[Asked, Given]):
    """Both ends of a run of middleware: checks of what is passed on and of what is returned."""

    lasts: bool
    """Whether a result is final, so that middleware can no longer refuse (true of commands)."""
    at: str
    """The name of the middleware that is running; empty while none is."""

    def checked(self, asked: Asked) -> Asked:
        """Return what a middleware passes on, validated.

        Raises:
            ValueError: middleware may not pass that on.
        """
        ...

    async def last(self, asked: Asked) -> Given:
        """Send it, or ask it, after the last middleware."""
        ...

    def did_nothing(self, error: BaseException) -> bool:
        """Return whether `last`, which raised this error, has certainly done nothing."""
        ...

    def accepted(self, answer: Any, given: Sequence[Given]) -> Given:
        """Return a middleware's answer, validated; `given` is what `proceed` returned to it.

        Raises:
            ValueError: it is not a valid answer.
        """
        ...


class Layers(Generic[Asked, Given]):
    """The middleware around commands, or around queries, outermost first."""

    def __init__(self, around: Sequence[tuple[_Instance, Around]]) -> None:
        self._around = around

    async def run(self, asked: Asked, context: Any, ends: Ends[Asked, Given]) -> Given:
        """Return the result of the outermost middleware.

        Raises:
            Refused: a middleware refused.
            MiddlewareFailed: a middleware raised, or did something that is not allowed.
            Exception: whatever `ends.last` raises, unless a middleware replaced it.
        """
        return await self._from(0, context, ends, asked)

    async def _from(self, at: int, context: Any, ends: Ends[Asked, Given], asked: Asked) -> Given:
        if at == len(self._around):
            ends.at = ""
            return await ends.last(asked)
        instance, around = self._around[at]
        name = ends.at = instance.name
        if not instance.is_open:
            await instance.opened()
        run = _Run(name, ends, partial(self._from, at + 1, context, ends))
        try:
            answer = await around(asked, context, run.proceed)
        except MiddlewareFailed:
            raise
        except Refused as refusal:
            if reason := run.why_not_refused(refusal):
                raise _failed(name, reason, done=run.is_done) from refusal
            raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a user's code
            behind = run.has_raised(error)
            if _is_cancelled(error) or (behind and not run.is_done):
                raise  # the error is not the middleware's own
            what = "called proceed again, and that failed" if behind else "broke"
            reason = f"{what}: {type(error).__name__}, see the log"
            raise _failed(name, reason, error, done=run.is_done) from error
        finally:
            run.is_over = True
        try:
            return ends.accepted(answer, run.given)
        except ValueError as error:
            raise _failed(name, str(error), done=run.is_done) from error


class _Run(Generic[Asked, Given]):
    """One run of one middleware: what it passes on, and the results."""

    def __init__(
        self, name: str, ends: Ends[Asked, Given], onwards: Callable[[Asked], Awaitable[Given]]
    ) -> None:
        self.given: list[Given] = []
        self.is_over = False
        self._name = name
        self._ends = ends
        self._onwards = onwards
        self._raised: list[BaseException] = []
        self._unsettled = 0
        """How many calls of `proceed` have an unknown outcome."""
        self._done_behind = False

    async def proceed(self, changed: Asked) -> Given:
        """Pass it on: see `rayfold.Middleware`."""
        if self.is_over:
            raise _failed(
                self._name, "called proceed after it had returned, when nobody waited any more"
            )
        try:
            asked = self._ends.checked(changed)
        except ValueError as error:
            raise _failed(self._name, str(error), error.__cause__) from error
        self._unsettled += 1
        try:
            gave = await self._onwards(asked)
        except BaseException as error:
            self._raised.append(error)
            self._unsettled -= self._ends.did_nothing(error)
            self._done_behind |= isinstance(error, MiddlewareFailed) and error.done
            if not isinstance(error, asyncio.CancelledError):  # a cancelled one keeps `ends.at`
                self._ends.at = self._name
            raise
        self._unsettled -= 1
        self._ends.at = self._name
        self.given.append(gave)
        return gave

    @property
    def is_done(self) -> bool:
        """Return whether what the middleware passed on was done: it can no longer refuse then."""
        return self._ends.lasts and (bool(self.given) or self._done_behind)

    def has_raised(self, error: BaseException) -> bool:
        """Return whether `proceed` raised this error, so that it is not the middleware's own."""
        return any(error is each for each in self._raised)

    def why_not_refused(self, refusal: Refused) -> str:
        """Return why the middleware may no longer refuse; empty if it may."""
        if self.is_done:
            return f"refused ({refusal.rule}) a command that was already done"
        if self._ends.lasts and self._unsettled and not self.has_raised(refusal):
            return f"refused ({refusal.rule}) a command that may have been done"
        return ""


def too_late(ends: Ends[Any, Any], told: str) -> str:
    """Return the message for a passed deadline, with the middleware that was running, if any.

    The deadline has cancelled the task, so `ends.at` still names it.
    """
    if not ends.at:
        return told
    log.warning("a middleware took too long", extra={"middleware": ends.at})
    return f"{told}, in the domain's middleware {ends.at!r}"


class DomainMiddleware:
    """One instance of each middleware of a domain, for one sender of commands or queries.

    `around("command")` and `around("query")` are None if the domain has no such middleware.
    """

    def __init__(self, registry: Registry) -> None:
        """Make the instances.

        Raises:
            DomainError: one of them cannot be made.
        """
        declared = sorted(registry.middleware.values(), key=lambda each: each.order)
        self._instances = [_Instance(each) for each in declared]

    def around(self, method: str) -> Layers[Any, Any] | None:
        """Return the layers of the middleware that has this method; None if there is none."""
        found = [
            (each, getattr(each.made, method))
            for each in self._instances
            if each.definition.has(method)
        ]
        return Layers(found) if found else None

    async def close(self) -> None:
        """Close the opened instances, the innermost first."""
        for each in reversed(self._instances):
            await each.close()


class _Instance:
    """One instance: made at once, and opened before the first call.

    Opening has a task of its own: if it ran in the first request and that reached its deadline or
    was cancelled, the next request would have to begin again.
    """

    def __init__(self, definition: MiddlewareDefinition) -> None:
        self.definition = definition
        self.name = definition.name
        self.made = _made(definition)
        self.is_open = False
        self._opening: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        """Return once the instance is open. If `open` fails, the next call tries it again.

        Raises:
            MiddlewareFailed: `open` failed.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError as error:
            if not opening.cancelled() or _is_cancelled(error):
                raise
            raise _failed(self.name, "was closed before it was open") from error

    async def _open(self) -> None:
        try:
            await self.made.open()
        except BaseException as error:  # a user's code
            self._opening = None
            if isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            reason = f"failed to open: {type(error).__name__}, see the log"
            raise _failed(self.name, reason, error) from error
        self.is_open = True

    async def close(self) -> None:
        """Close the instance if it was opened. An error or a time-out is logged."""
        opening, self._opening = self._opening, None
        try:
            async with asyncio.timeout(CLOSING):
                if opening is not None and not opening.done():
                    opening.cancel()
                    await asyncio.wait([opening])
                if self.is_open:
                    self.is_open = False
                    await self.made.close()
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # a user's code
            if _is_cancelled(error):
                raise
            log.exception("a middleware failed to close", extra={"middleware": self.name})


def _is_cancelled(error: BaseException) -> bool:
    """Return whether this task itself is cancelled, and not one that a middleware awaits."""
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError)
    return cancelled and task is not None and task.cancelling() > 0


def _made(definition: MiddlewareDefinition) -> Middleware:
    try:
        return definition.model()
    except (Exception, SystemExit) as error:  # a user's code
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DomainError(f"{definition.model.__qualname__} cannot be made: {told}") from error


def _failed(
    name: str, reason: str, error: BaseException | None = None, *, done: bool = False
) -> MiddlewareFailed:
    extra = {"middleware": name, "reason": reason}
    log.error("a middleware failed", exc_info=error, extra=extra)
    return MiddlewareFailed(name, reason, done)
