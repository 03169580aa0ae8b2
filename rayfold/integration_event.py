"""Integration events: messages for other systems, separate from the events on our own log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import AliasChoices

from rayfold.core_schemas import models_in
from rayfold.declarations import misnamed
from rayfold.messages import Event, EventDefinition

_WORD = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
_NAME = re.compile(rf"{_WORD}(\.{_WORD})*\Z")


@dataclass(frozen=True, eq=False)
class IntegrationEventDefinition(EventDefinition):
    """What an integration event's class declares."""

    by_alias = None  # aliases are part of the contract with other systems

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        form = "kebab-case, with dots at most, like 'shop.order-shipped'"
        found = misnamed(self.model, self.name, _NAME, form)
        found += [
            f"{self.model.__qualname__}.{field} is personal data: say whose, with subject="
            for field, each in self.personal.items()
            if not each.subject
        ]
        if self.personal and self.model.model_config.get("serialize_by_alias"):
            found.append(
                f"{self.model.__qualname__} has personal data, which is known by the fields' own"
                " names: leave serialize_by_alias out"
            )
        found += _read_by_other_names(self.model)
        return found + self.mistakes_of_schema()


def _read_by_other_names(model: type[Event]) -> Iterator[str]:
    for each in models_in(model) if "__pydantic_core_schema__" in vars(model) else ():
        if not each.model_config.get("serialize_by_alias"):
            continue
        for field, info in each.model_fields.items():
            written, read = info.serialization_alias, info.validation_alias
            also = read.choices if isinstance(read, AliasChoices) else [read]
            if written not in (None, field, *also):
                yield (
                    f"{each.__qualname__}.{field} is written as {written!r}, and not read by that"
                    f" name: say alias={written!r}, or give validation_alias= that one too"
                )


class IntegrationEvent(Event):
    """A message to others: `class OrderDispatched(IntegrationEvent, name="shop.dispatched")`.

    The name is the `type` of the CloudEvent, and `version` its `dataversion`. It is a contract with
    other systems, so it is a separate class: events on the log can change without it.
    """

    __rayfold__: ClassVar[IntegrationEventDefinition]

    def __init_subclass__(
        cls, *, name: str = "", version: int = 1, subject: str = "", **kwargs: Any
    ) -> None:
        super().__init_subclass__(name=name, version=version, subject=subject, **kwargs)
        cls.__rayfold__ = IntegrationEventDefinition(cls, name, version, subject)
