"""Reactors: side effects that follow an event, in no particular order.

    class Receipts(Reactor, name="receipts"):
        async def open(self) -> None:
            self.http = AsyncClient(base_url="https://mail.example.com")

        @on(OrderPaid)
        async def paid(self, event: OrderPaid, attempt: Attempt) -> None:
            await self.http.post("/send", headers={"Idempotency-Key": str(attempt.id)}, json=…)

        async def close(self) -> None:
            await self.http.aclose()

It is the only part of a domain that does I/O, and no decision and no fold may depend on what it
finds. It opens what it needs in `open`, in the process in which it runs, because its module is
imported by every process of the stack.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar
from uuid import UUID, uuid5

from rayfold.declarations import keywords_of, misnamed, too_long
from rayfold.fingerprint import fingerprint_of
from rayfold.folds import folds_of, mistakes_of_folds
from rayfold.messages import KEBAB, Event

MAX_NAME = 48

MAX_TIMEOUT = 600.0

_IDS = UUID("0f3c1f3e-8a52-5d1b-9b7e-5a1f0c1f8d43")

Handler = Callable[[Any, Event, "Attempt"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Attempt:
    """One attempt to handle an event. `number` counts from 1; `id` is the same for all, for
    use as an idempotency key.

    `interrupted`: the process died during an earlier attempt, whose effect may or may not have
    happened. It is False after an attempt that raised.
    """

    id: UUID
    number: int
    interrupted: bool
    stream: str
    revision: int
    position: int
    recorded_at: datetime | None = None
    tenant: str = ""
    """The event's tenant, on a stack that serves tenants."""


@dataclass(frozen=True, eq=False)
class ReactorDefinition:
    """What a reactor declares; see `Reactor` for the keywords."""

    model: type[Reactor]
    name: str
    attempts: int
    timeout: float
    from_beginning: bool

    @cached_property
    def handlers(self) -> dict[type[Event], Handler]:
        """The handler of each event type that has one."""
        return {fold.event_type: fold.apply for _, fold in folds_of(self.model)}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when something else may be done."""
        return f"{self.attempts} {self.timeout} {fingerprint_of(self.model)}"

    def attempt_id(self, stream: str, revision: int, index: int) -> UUID:
        """Return what is the same at every attempt at an event; `index` counts a record's."""
        return uuid5(_IDS, f"{self.name}\n{stream}@{revision}\n{index}")

    def mistakes(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence per mistake."""
        name = self.model.__qualname__
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'receipts'")
        found += too_long(self.model, "name", self.name, MAX_NAME)
        if self.attempts < 1:
            found.append(f"{name}: attempts is 1 or more, not {self.attempts}")
        if not 0 < self.timeout <= MAX_TIMEOUT:
            found.append(f"{name}: timeout is more than 0 and at most {MAX_TIMEOUT:.0f} seconds")
        found += mistakes_of_folds(self.model, None, None)
        if not self.handlers:
            found.append(f"{name} handles no event: mark its methods with @on")
        for member, fold in folds_of(self.model):
            where = f"{name}.{member}"
            if fold.starts or fold.key_of:
                found.append(f"{where} begins nothing and has no key: use plain @on")
            if not inspect.iscoroutinefunction(fold.apply):
                found.append(f"{where} must be `async def`")
            if len(inspect.signature(fold.apply).parameters) != 3:
                found.append(f"{where} takes (self, event, attempt)")
        return found


class Reactor:
    """Has side effects for events: at least once, in any order. Class keywords:

    - `name`: in kebab-case.
    - `attempts`: how often an event is tried before it is parked.
    - `timeout`: seconds for one attempt, after which it is cancelled and counts as failed.
    - `from_beginning`: when it first runs, handle everything that is on the log. By default it
      begins with the events after that.

    Handlers are `async def handler(self, event, attempt)`, marked by `@on(Event)`. When one
    returns, the event is recorded as done; when it raises, it is tried again after growing pauses.
    """

    __rayfold__: ClassVar[ReactorDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        attempts: int = 8,
        timeout: float = 20.0,
        from_beginning: bool = False,
        **kwargs: Any,
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.__rayfold__ = ReactorDefinition(cls, name, attempts, timeout, from_beginning)

    async def open(self) -> None:
        """Open what the handlers need. Called once, in the process and loop that they run in."""

    async def close(self) -> None:
        """Close what `open` has opened."""
