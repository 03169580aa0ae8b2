"""Middleware: code that runs around each command and each query of a domain.

    class Owners(Middleware, name="owners", order=10):
        async def command(
            self, command: Command, context: CommandContext, proceed: ProceedCommand
        ) -> Receipt:
            if isinstance(command, CancelOrder) and not context.may("orders:cancel"):
                raise Forbidden("not-yours", "only the shop cancels")
            return await proceed(command)

Middleware runs where a command is sent from, in a gateway or in the process of a process manager,
and never in an aggregate's writer: a decision depends on nothing but state and command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

from rayfold.answer import Answer
from rayfold.declarations import keywords_of, misnamed
from rayfold.messages import KEBAB, Command
from rayfold.middleware_context import CommandContext, QueryContext
from rayfold.query import Query
from rayfold.receipt import Receipt

ProceedCommand = Callable[[Command], Coroutine[Any, Any, Receipt]]
"""Passes a command on to the next middleware, and finally to its aggregate."""

ProceedQuery = Callable[[Query], Coroutine[Any, Any, Answer]]
"""Passes a query on to the next middleware, and finally to a store."""

_AROUND = {"command": ("command", "context", "proceed"), "query": ("query", "context", "proceed")}
_CALLED: dict[str, tuple[str, ...]] = {**_AROUND, "open": (), "close": ()}


@dataclass(frozen=True, eq=False)
class MiddlewareDefinition:
    """What a middleware declares; see `Middleware` for the keywords."""

    model: type[Middleware]
    name: str
    order: int

    def has(self, method: str) -> bool:
        """Return whether it has a `command` or a `query` of its own."""
        return getattr(self.model, method) is not getattr(Middleware, method)

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        name = self.model.__qualname__
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'audit'")
        if type(self.order) is not int:
            found.append(f"{name}: order must be a whole number (the lowest is outermost)")
        for method, parameters in _CALLED.items():
            if self.has(method):
                found += _miscalled(f"{name}.{method}", self.model, method, parameters)
        if not any(self.has(each) for each in _AROUND):
            found.append(f"{name} needs `async def command` or `async def query`")
        found += [
            f"{name}.{other} is called by nobody: a middleware has {', '.join(_CALLED)};"
            f" call it _{other} if it is for these"
            for other in self._others()
        ]
        try:
            inspect.signature(self.model).bind()
        except TypeError:
            found.append(f"{name} is made without arguments: get what it needs in `open`")
        return found

    def _others(self) -> list[str]:
        ours = [each for each in self.model.__mro__ if issubclass(each, Middleware)]
        functions = (staticmethod, classmethod)
        return [
            each
            for base in ours[: ours.index(Middleware)]
            for each, value in vars(base).items()
            if (inspect.isfunction(value) or isinstance(value, functions))
            and not each.startswith("_")
            and each not in _CALLED
        ]


class Middleware:
    """Runs around incoming commands and queries. Class keywords:

    - `name`: in kebab-case.
    - `order`: the lowest is outermost, first to see a command and last to see its receipt. No two
      middlewares of a domain have the same order.

    `command` and `query` call `await proceed(…)` and return its result. They may refuse, by
    raising `Rejected`, `NotFound` or `Forbidden`. They may proceed with a changed command or
    query, of the same type and for the same aggregate, which is validated again. A `query` may
    return the answer with another body. Any other exception is a mistake: the client gets a 500.

    Each part that sends commands or answers queries makes one instance, which many requests share,
    so all of them see the attributes of `self`. `rayfold up` has two such parts in one process, and
    first makes another instance to check that it can: what must exist once belongs in the module.
    """

    __rayfold__: ClassVar[MiddlewareDefinition]

    def __init_subclass__(cls, *, name: str = "", order: int = 0, **kwargs: Any) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.__rayfold__ = MiddlewareDefinition(cls, name, order)

    async def open(self) -> None:
        """Create what the other methods need. Called before their first call, again if it raised.

        It is not cancelled when the request that waits has reached its deadline or its client has
        gone: it goes on for the next request.
        """

    async def close(self) -> None:
        """Close what `open` created, within 5 seconds."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Receipt:
        """Run around one attempt to send a command."""
        return await proceed(command)

    async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
        """Run around one query."""
        return await proceed(query)


def _miscalled(
    where: str, model: type[Middleware], method: str, parameters: tuple[str, ...]
) -> list[str]:
    function = inspect.getattr_static(model, method)
    if not inspect.iscoroutinefunction(function):
        return [f"{where} must be `async def`, and neither static nor of the class"]
    try:
        inspect.signature(function).bind(None, *parameters)
    except TypeError:
        return [f"{where} takes ({', '.join(('self', *parameters))})"]
    return []
