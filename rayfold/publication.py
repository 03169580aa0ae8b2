"""Publications: integration events for other systems, which pure functions derive from events.

    class OrderNews(Publication[Dispatched | CalledOff], name="order-news", key="order_id"):
        @staticmethod
        @on(OrderShipped)
        def shipped(event: OrderShipped) -> Iterator[Dispatched]:
            yield Dispatched(order_id=event.order_id, at=event.at)

A publication carries what its handlers derive from the log and what processes yield as
`Publish(…)`. Whether it goes to a webhook or to NATS is not the domain's concern: see the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar

from rayfold.aggregate import union_members
from rayfold.declarations import arguments_of, keywords_of, misnamed, too_long
from rayfold.fingerprint import fingerprint_of, fingerprint_of_model
from rayfold.folds import folds_of, mistakes_of_folds
from rayfold.integration_event import IntegrationEvent
from rayfold.keys import key_text, scalar_of
from rayfold.messages import KEBAB, Event

I = TypeVar("I", bound=IntegrationEvent)  # noqa: E741

MAX_NAME = 48

MAX_DERIVED = 1000
"""The most integration events that one event may lead to."""


@dataclass(frozen=True, eq=False)
class PublicationDefinition:
    """What a publication declares; see `Publication` for the keywords."""

    model: type[Publication[Any]]
    name: str
    key: str
    from_beginning: bool
    carries: tuple[type[IntegrationEvent], ...]

    @cached_property
    def handlers(self) -> dict[type[Event], Callable[[Any], Any]]:
        """The handler of each event type that has one."""
        return {fold.event_type: fold.apply for _, fold in folds_of(self.model)}

    @cached_property
    def fingerprint(self) -> str:
        """Text that changes when the derived integration events may differ."""
        models = " ".join(fingerprint_of_model(each) for each in self.carries)
        return f"{fingerprint_of(self.model)} {models}"

    def derive(self, event: Event) -> list[IntegrationEvent]:
        """Return the integration events that an event leads to.

        Raises:
            TypeError, ValueError: a handler returns what the publication does not carry, or more
                than `MAX_DERIVED`.
            Exception: whatever the author's code raises.
        """
        handler = self.handlers.get(type(event))
        given = handler(event) if handler else None
        if given is None:
            return []
        each = [given] if isinstance(given, Event) else given
        derived = list(islice(each, MAX_DERIVED + 1))
        if len(derived) > MAX_DERIVED:
            raise ValueError(f"a handler of {self.name!r} gives more than {MAX_DERIVED} events")
        for one in derived:
            if type(one) not in self.carries:
                raise TypeError(f"{self.name!r} does not carry a {type(one).__qualname__}")
        return derived

    def key_of(self, integration_event: IntegrationEvent) -> str:
        """Return the key as text: integration events with the same key are delivered in order.

        Raises:
            ValueError: the key is empty.
        """
        value = getattr(integration_event, self.key)
        text = key_text(value) if value is not None else ""
        if not text:
            kind = type(integration_event).__qualname__  # not its fields: this is on the log
            raise ValueError(f"the key {self.key!r} of a {kind} is empty")
        return text

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        name = self.model.__qualname__
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'order-news'")
        found += too_long(self.model, "name", self.name, MAX_NAME)
        if not self.carries:
            found.append(f"{name} must derive from Publication[IntegrationEvents]")
        if not self.key:
            found.append(f'{name} needs key="…", the field of what it carries that orders it')
        if any(fold.starts or fold.key_of for _, fold in folds_of(self.model)):
            found.append(f"{name} begins no rows, and has one key: use plain @on")
        found += mistakes_of_folds(self.model, "give the integration events, or None", ("event",))
        for each in self.carries if self.key else ():
            info = each.model_fields.get(self.key)
            if info is None:
                found.append(f"{each.__qualname__} has no field {self.key!r}, the key of {name}")
            elif scalar_of(info) is None:
                found.append(f"{each.__qualname__}.{self.key} cannot be a key: not a scalar")
        return found


class Publication(Generic[I]):
    """Integration events for others: `class OrderNews(Publication[…], name=…, key=…)`.

    The type argument is the union of the integration events that it carries. Handlers are static
    methods marked by `@on(Event)`; they return one integration event, several, or None. Class
    keywords:

    - `name`: in kebab-case.
    - `key`: the field of the integration events whose value they are ordered within.
    - `from_beginning`: on its first run, publish the whole log; otherwise only what is appended
      from then on.
    """

    __rayfold__: ClassVar[PublicationDefinition]

    def __init_subclass__(
        cls, *, name: str = "", key: str = "", from_beginning: bool = False, **kwargs: Any
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        carries = _type_argument(cls)
        cls.__rayfold__ = PublicationDefinition(cls, name, key, from_beginning, carries)


def _type_argument(cls: type) -> tuple[type[IntegrationEvent], ...]:
    for carried in arguments_of(cls, Publication):
        members = union_members(carried)
        if all(isinstance(each, type) and issubclass(each, IntegrationEvent) for each in members):
            return members
    return ()
