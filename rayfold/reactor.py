"""Reactors: side effects outside the system because of events, in no particular order.

    class Receipts(Reactor, name="receipts"):
        async def open(self) -> None:
            self.http = AsyncClient(base_url="https://mail.example.com")

        @on(OrderPaid)
        async def paid(self, event: OrderPaid, attempt: Attempt) -> None:
            await self.http.post("/send", headers={"Idempotency-Key": str(attempt.id)}, json=…)

        async def close(self) -> None:
            await self.http.aclose()

A reactor is the one part of a domain that does I/O. Nothing else in the domain sees it: neither
a decision nor a fold may depend on what it finds. It creates what it needs in `open`, in the
process in which it runs, because every process of the stack imports the module that declares it.
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
    """One attempt to handle an event. `number` counts from 1. `id` is the same in every attempt
    at the event, so that it can be an idempotency key.

    `interrupted`: the process died during an earlier attempt, so its outcome is unknown and its
    side effect may have happened. After an attempt that raised, `interrupted` is False.
    """

    id: UUID
    number: int
    interrupted: bool
    stream: str
    revision: int
    position: int
    recorded_at: datetime | None = None
    tenant: str = ""
    """The tenant whose event it is, on a stack that serves tenants."""


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
        """Text that changes when the handlers may do something else."""
        return f"{self.attempts} {self.timeout} {fingerprint_of(self.model)}"

    def attempt_id(self, stream: str, revision: int, index: int) -> UUID:
        """Return the `Attempt.id` of an event; `index` is the event's place within its record."""
        return uuid5(_IDS, f"{self.name}\n{stream}@{revision}\n{index}")

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
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
    """Has side effects for events: at least once for each, in any order. Class keywords:

    - `name`: in kebab-case.
    - `attempts`: how often an event is tried before it is parked.
    - `timeout`: seconds for one attempt, after which it is cancelled and counts as failed.
    - `from_beginning`: on its first run, begin with the whole log; otherwise only with what is
      appended from then on.

    Handlers are `async def handler(self, event, attempt)`, marked by `@on(Event)`. When one
    returns, the event is recorded as done; when one raises, it is tried again after growing delays.
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
        """Create what the handlers need. Called once, in the process and loop that they run in."""

    async def close(self) -> None:
        """Close what `open` created."""
