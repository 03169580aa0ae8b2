"""Commands, events and queries: frozen pydantic models with a stored name.

The name is given explicitly, and never derived from the class path: it is what the
log, the HTTP routes and other systems know, so that classes can be moved and renamed.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from rayfold.errors import DomainError
from rayfold.values import ServerSupplied

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*\Z")

_new = object.__new__
_set = object.__setattr__


class Message(BaseModel):
    """What commands, events, queries, states and rows have in common: values, not objects."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64")

    def replace(self, **changes: Any) -> Self:
        """This value with some fields changed; the changes are taken as valid.

        Folds run millions of times over data that was validated on its way in, so this does
        not validate again. `model_copy(update=…)`, done by hand: that takes twice as long.
        """
        fresh = _new(self.__class__)
        _set(fresh, "__dict__", {**self.__dict__, **changes})
        _set(fresh, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        _set(fresh, "__pydantic_extra__", None)
        _set(fresh, "__pydantic_private__", None)
        return fresh


class Command(Message):
    """An intention, in the imperative: `class AddLine(Command, name="add-line")`.

    `creates=True` says that the command usually begins an aggregate. It is a hint: the
    runtime then decides on the initial state first and lets the store's expected
    revision tell when the aggregate was there already, which saves a read.
    """

    name: ClassVar[str] = ""
    creates: ClassVar[bool] = False
    server_supplied: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, name: str, creates: bool = False, **kwargs: Any) -> None:
        # The keywords are for pydantic's hook below, which runs when the fields are known;
        # pydantic passes them here too, and this signature is what type checkers go by.
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, name: str | None = None, creates: bool = False, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.name = checked_name(cls, name, KEBAB, "kebab-case, like 'add-line'")
        cls.creates = creates
        cls.server_supplied = frozenset(
            field
            for field, info in cls.model_fields.items()
            if any(isinstance(extra, ServerSupplied) for extra in info.metadata)
        )


class Event(Message):
    """A fact, in the past tense: `class LineAdded(Event, name="LineAdded", version=2)`.

    The name is the event type on the log. `version` is the schema's, written into each
    event's metadata; raise it together with an upcaster from the one before.
    Events ignore fields that they do not know, so that an older reader survives a newer
    writer.
    """

    model_config = ConfigDict(extra="ignore")

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def __init_subclass__(cls, *, name: str, version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # see Command

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, name: str | None = None, version: int = 1, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.name = checked_name(cls, name, PASCAL, "PascalCase, like 'LineAdded'")
        if version < 1:
            raise DomainError(f"{cls.__name__}: a schema version starts at 1, not {version}")
        cls.version = version


def checked_name(cls: type, name: str | None, form: re.Pattern[str], words: str) -> str:
    """`name`, if it was given in this form.

    Raises:
        DomainError: it was not.
    """
    if name is None or not form.match(name):
        raise DomainError(f'{cls.__qualname__} needs name="…" in {words}; got {name!r}')
    return name
