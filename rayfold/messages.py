"""Commands and events: frozen pydantic models with a stored name.

The name is given explicitly, and never derived from the class path: it is what the
log, the HTTP routes and other systems know, so that classes can be moved and renamed.

What a class declares by keywords is kept in its *definition*, where no field can be in
its way: an event may have a field called `name`. The runtime works with definitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, NoReturn, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticUndefined, from_json

from rayfold.core_schemas import has_functions, has_serializers
from rayfold.declarations import keywords_of, misnamed, mistaken_permission
from rayfold.field_checks import checks_of, known
from rayfold.field_defaults import became, has_untried_defaults
from rayfold.field_types import mistakes_of_fields
from rayfold.ordered_sets import SetsInOrder
from rayfold.passed_over import Path, passed_over, shortened, take_out
from rayfold.personal import (
    PersonalFields,
    dump,
    is_marked,
    mark,
    mistakes_of_personal,
    personal_fields,
    plain,
    refuse_marks,
)
from rayfold.values import ServerSupplied

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*\Z")

_NOTHING: frozenset[type] = frozenset()

_new = object.__new__
_set = object.__setattr__


def _annotates(cls: type, field: str) -> bool:
    below = cls.__mro__[: cls.__mro__.index(Message)]
    return any(field in vars(base).get("__annotations__", ()) for base in below)


class Message(SetsInOrder, BaseModel):
    """The base of commands, events, queries, states and rows: an immutable value.

    NaN and infinity are refused, since JSON has neither. In JSON, bytes are base64, and sets
    have a fixed order.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,  # what is stored is stored under the fields' own names
        ser_json_bytes="base64",
        val_json_bytes="base64",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # so that what got around validation is seen, not lost
        hide_input_in_errors=True,  # it may be somebody's, and errors are logged, parked, and told
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        if _annotates(cls, "replace") and "replace" not in vars(cls):
            # pydantic takes what a class inherits under a field's name for the field's default.
            cls.replace = PydanticUndefined  # type: ignore[method-assign, assignment]

    def replace(self, /, **changes: Any) -> Self:
        """Return this value with some fields changed, each checked as by the constructor.

        A value of the field's exact class is checked at almost no cost, because folds run millions
        of times: see `rayfold.field_checks`. Unchanged fields, and the model as a whole, are not
        validated again. Private attributes and cached properties are reset, as by the constructor.
        In a class with a field called `replace`, call `Message.replace(value, …)`.

        Raises:
            ValueError: a value does not fit its field, or there is no field of that name.
        """
        cls = self.__class__
        checks = known.get(cls) or checks_of(cls)
        exact = checks.exact
        for field, value in changes.items():
            if value.__class__ not in exact.get(field, _NOTHING):
                changes[field] = checks.validated({**self.__dict__, **changes}, field, value)
        values = {**self.__dict__, **changes}
        if len(values) != len(exact):  # a `cached_property` is in there, of how it was before
            values = {field: value for field, value in values.items() if field in exact}
        fresh = _new(cls)
        _set(fresh, "__dict__", values)
        _set(fresh, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        _set(fresh, "__pydantic_extra__", None)
        _set(fresh, "__pydantic_private__", None)
        if cls.__pydantic_post_init__:  # private attributes: as the constructor makes them
            fresh.model_post_init(None)
        return fresh


@dataclass(frozen=True, eq=False)
class CommandDefinition:
    """What a command class declares."""

    model: type[Command]
    name: str
    creates: bool
    needs: str = ""
    subject: str = ""

    owner_id: str = ""
    """The field that says whose its personal data is where it does not say so itself."""

    @cached_property
    def personal(self) -> PersonalFields:
        """The fields that are personal data."""
        return personal_fields(self.model, self.subject or self.owner_id)

    def belongs_to(self, id_field: str) -> None:
        """Say which field has the id of its aggregate."""
        object.__setattr__(self, "owner_id", id_field)

    @cached_property
    def server_supplied(self) -> frozenset[str]:
        """The fields that the runtime fills."""
        return frozenset(
            field
            for field, info in self.model.model_fields.items()
            if any(isinstance(extra, ServerSupplied) for extra in info.metadata)
        )

    @cached_property
    def _is_plain(self) -> bool:
        return not (has_functions(self.model) or has_serializers(self.model))

    @cached_property
    def _has_untried_defaults(self) -> bool:
        return has_untried_defaults(self.model)

    def encode(self, command: Command) -> bytes:
        """Return the command as JSON that its writer reads as the same; personal data is marked.

        Fields have their own names, as in events: an alias is for clients, and may change.

        Raises:
            ValueError: it would not: a validator changes again what it has changed, say, or a
                default does not fit.
        """
        data: bytes = command.__pydantic_serializer__.to_json(command, by_alias=False)
        if not self._is_plain:
            if (back := self.decode(data)) != command:
                raise ValueError(_told_apart(command, back))
        elif self._has_untried_defaults:
            self.decode(data)  # its writer could not tell that from another release's shape
        if self.personal:
            return mark(data, self.personal, command)
        if is_marked(data):
            refuse_marks(data)
        return data

    def encode_exactly(self, command: Command) -> bytes:
        """Return the command of a process as JSON: its fields were given by code, and not by JSON.

        Raises:
            ValueError: another command would come back.
        """
        data = self.encode(command)
        back = self.decode(data)
        if back != command:
            raise ValueError(_told_apart(command, back))
        return data

    def decode(self, data: bytes) -> Command:
        """Return the command that was valid JSON before: computed fields in it are passed over.

        Raises:
            ValidationError: it does not fit.
        """
        if self.personal:
            data = plain(data)
        command: Command = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        return command

    def decode_all(self, data: bytes) -> tuple[Command, Sequence[Path]]:
        """Return the command as `decode` does, and where the JSON has fields that it has not.

        Raises:
            ValidationError: it does not fit.
        """
        if self.personal:
            data = plain(data)
        command: Command = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        # Written again it has what it computes. To forbid what it has not would have a union, or an
        # author's validator, read another command.
        read: bytes = command.__pydantic_serializer__.to_json(command, by_alias=False)
        if read == data:
            return command, ()
        return command, shortened([*passed_over(from_json(data), from_json(read))])

    def without(self, data: bytes, fields: Sequence[Path]) -> bytes | None:
        """Return the JSON of a command without some fields; None if it is another command then.

        So it is where one has no default, or cannot be taken out.
        """
        try:
            command, unread = self.decode_all(data)
            if {*map(tuple, fields)} <= {*unread}:
                # Another release kept it, most often one before, and nobody has them now.
                return self.encode(command)
            whole, less = (from_json(plain(data)) for _ in range(2))
            take_out(less, fields)
            fresh = dump(less)
            if less == whole or (back := self.decode(fresh)) != command:
                return None
            left = {name: each for name, each in self.personal.items() if name in less}
            return mark(fresh, left, back) if left else fresh
        except (Exception, SystemExit):  # an author's validator misses one
            return None

    def mistakes(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence per mistake."""
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'add-line'")
        found += mistaken_permission(self.model, self.needs)
        found += mistakes_of_personal(self.model, self.subject)
        return found + mistakes_of_fields(self.model, is_sent=True)


class Command(Message):
    """An intention, in the imperative: `class AddLine(Command, name="add-line")`.

    `creates=True` says that the command usually begins an aggregate. It is a hint: the runtime
    decides on the initial state first, which saves a read, and the append fails by its expected
    revision if the aggregate exists already.

    `subject` is the field that names the person whose data the command contains: see `Personal`. By
    default it is the aggregate's id.
    """

    __rayfold__: ClassVar[CommandDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        creates: bool = False,
        needs: str = "",
        subject: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = CommandDefinition(cls, name, creates, needs, subject)


@dataclass(frozen=True, eq=False)
class EventDefinition:
    """What an event class declares, and how its events stand in the log."""

    by_alias: ClassVar[bool | None] = False
    """Whether fields are written under their aliases; None: as the class says."""

    model: type[Event]
    name: str
    version: int
    subject: str = ""

    @cached_property
    def personal(self) -> PersonalFields:
        """The fields that are personal data."""
        return personal_fields(self.model, self.subject)

    def encode(self, event: Event) -> bytes:
        """Return the event as JSON that comes back as the same event; personal data is marked.

        Fields have their own names, also where the class says `serialize_by_alias`: what is
        personal, and what old events have, is known by these.

        The log is for ever, so what could not be read again is not written: a value that got
        around validation (`model_construct`, `replace`), NaN, a type that JSON makes another
        of. That costs some microseconds an event.

        Raises:
            ValueError: it would not come back.
        """
        serialize = partial(event.__pydantic_serializer__.to_json, by_alias=self.by_alias)
        data = serialize(event, warnings=False)
        try:
            back = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        except ValidationError:
            _refuse_constants(data)  # says better why
            raise
        # The same bytes again, from equal fields: that settles nearly all of them. What remains may
        # still be right (a set has no order), and is looked at closely.
        if (
            back.__dict__ != event.__dict__
            or b"Infinity" in data
            or serialize(back, warnings=False) != data
        ):
            _refuse_constants(data)
            serialize(event, warnings="error")
            if event != back:
                raise ValueError(_told_apart(event, back))
        if self.personal:
            return mark(data, self.personal, event)
        if is_marked(data):
            refuse_marks(data)
        return data

    def mistakes(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence per mistake."""
        found = misnamed(self.model, self.name, PASCAL, "PascalCase, like 'LineAdded'")
        return found + self.mistakes_of_schema()

    def mistakes_of_schema(self) -> list[str]:
        """Return what is wrong with the version and the fields."""
        name, found = self.model.__qualname__, []
        if self.version < 1:
            found.append(f"{name}: a schema version starts at 1, not {self.version}")
        found += mistakes_of_personal(self.model, self.subject)
        return found + mistakes_of_fields(self.model, by_alias=self.by_alias)


class Event(Message):
    """A fact, in the past tense: `class LineAdded(Event, name="LineAdded", version=2)`.

    The name is the event type on the log. `version` is the schema's, written into each
    event's metadata; raise it together with an upcaster from the one before.
    Unknown fields are ignored, so that an older release can read what a newer one has written.
    `subject` is the field that names the person whose data the event contains: see `Personal`. By
    default it is the aggregate's id.
    """

    model_config = ConfigDict(extra="ignore")

    __rayfold__: ClassVar[EventDefinition]

    def __init_subclass__(
        cls, *, name: str = "", version: int = 1, subject: str = "", **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = EventDefinition(cls, name, version, subject)


def _told_apart(message: Message, back: Message) -> str:
    """Return a sentence that names the first field which JSON makes another of."""
    name = type(message).__qualname__
    for field, value in message.__dict__.items():
        other = back.__dict__.get(field)
        if other != value:
            change = became(value, other) or ": a validator or serializer makes another of it"
            return f"{name}.{field} does not come back from JSON as it was written{change}"
    return f"{name} does not come back from JSON as it was written"


def _refuse_constants(data: bytes) -> None:
    json.loads(data, parse_constant=_refuse_constant)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
