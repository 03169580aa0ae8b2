"""Commands and events: frozen pydantic models with a stored name.

The name is given explicitly and never derived from the class path. The log, the HTTP routes
and other systems know a message by it, so classes can be moved and renamed.

What a class declares by keywords is kept in its *definition*, where it cannot clash with a
field: an event may have a field called `name`. The runtime works with definitions.
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
    """The base of commands, events, queries, states and rows: immutable values.

    NaN and infinity are refused, since JSON has neither. In JSON, bytes are base64 and sets are
    sorted.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,  # stored data has the fields' own names, not aliases
        ser_json_bytes="base64",
        val_json_bytes="base64",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # an unvalidated NaN is then seen, and not lost
        hide_input_in_errors=True,  # it may be personal; errors are logged, parked and sent
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        if _annotates(cls, "replace") and "replace" not in vars(cls):
            # pydantic takes an inherited attribute with a field's name as the field's default.
            cls.replace = PydanticUndefined  # type: ignore[method-assign, assignment]

    def replace(self, /, **changes: Any) -> Self:
        """Return a copy with some fields changed; each change is checked as by the constructor.

        A value of the field's exact class is checked at almost no cost, because folds run millions
        of times: see `rayfold.field_checks`. Unchanged fields and the model as a whole are not
        validated again. Private attributes and cached properties begin anew, as with the
        constructor. In a class with a field called `replace`, call `Message.replace(value, …)`.

        Raises:
            ValueError: a field does not accept its value, or there is no field of that name.
        """
        cls = self.__class__
        checks = known.get(cls) or checks_of(cls)
        exact = checks.exact
        for field, value in changes.items():
            if value.__class__ not in exact.get(field, _NOTHING):
                changes[field] = checks.validated({**self.__dict__, **changes}, field, value)
        values = {**self.__dict__, **changes}
        if len(values) != len(exact):  # it includes a `cached_property` of the old value
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
    """The field that names the subject of personal data whose own declaration names none."""

    @cached_property
    def personal(self) -> PersonalFields:
        """The fields that are personal data."""
        return personal_fields(self.model, self.subject or self.owner_id)

    def belongs_to(self, id_field: str) -> None:
        """Set the field that has the id of the command's aggregate."""
        object.__setattr__(self, "owner_id", id_field)

    @cached_property
    def server_supplied(self) -> frozenset[str]:
        """The fields that the runtime fills in."""
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
        """Return the command as JSON, with personal data marked, which its writer reads back equal.

        Fields have their own names, as in events: an alias is for clients, and may change.

        Raises:
            ValueError: it would not be read back equal: a validator changes an already changed
                value again, for instance, or a default does not fit its field.
        """
        data: bytes = command.__pydantic_serializer__.to_json(command, by_alias=False)
        if not self._is_plain:
            if (back := self.decode(data)) != command:
                raise ValueError(_told_apart(command, back))
        elif self._has_untried_defaults:
            self.decode(data)  # its writer would take an error for another release's shape
        if self.personal:
            return mark(data, self.personal, command)
        if is_marked(data):
            refuse_marks(data)
        return data

    def encode_exactly(self, command: Command) -> bytes:
        """Return as JSON a process's command, whose fields were set by code and not read from JSON.

        Raises:
            ValueError: the JSON would be read as another command.
        """
        data = self.encode(command)
        back = self.decode(data)
        if back != command:
            raise ValueError(_told_apart(command, back))
        return data

    def decode(self, data: bytes) -> Command:
        """Return the command in JSON that `encode` made; computed fields in it are ignored.

        Raises:
            ValidationError: the data does not fit the command.
        """
        if self.personal:
            data = plain(data)
        command: Command = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        return command

    def decode_all(self, data: bytes) -> tuple[Command, Sequence[Path]]:
        """Return the command, as `decode` does, and the paths of fields that it does not have.

        Raises:
            ValidationError: the data does not fit the command.
        """
        if self.personal:
            data = plain(data)
        command: Command = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        # Unknown fields are found by writing the command again, with what it computes. Forbidding
        # extra fields could make a union, or an author's validator, read another command.
        read: bytes = command.__pydantic_serializer__.to_json(command, by_alias=False)
        if read == data:
            return command, ()
        return command, shortened([*passed_over(from_json(data), from_json(read))])

    def without(self, data: bytes, fields: Sequence[Path]) -> bytes | None:
        """Return the JSON of a command without some fields; None if that changes the command.

        It does if a field is not at its default, or cannot be taken out.
        """
        try:
            command, unread = self.decode_all(data)
            if {*map(tuple, fields)} <= {*unread}:
                # Another release wrote it, usually an older one, and these fields exist no more.
                return self.encode(command)
            whole, less = (from_json(plain(data)) for _ in range(2))
            take_out(less, fields)
            fresh = dump(less)
            if less == whole or (back := self.decode(fresh)) != command:
                return None
            left = {name: each for name, each in self.personal.items() if name in less}
            return mark(fresh, left, back) if left else fresh
        except (Exception, SystemExit):  # an author's validator needs one of the fields
            return None

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'add-line'")
        found += mistaken_permission(self.model, self.needs)
        found += mistakes_of_personal(self.model, self.subject)
        return found + mistakes_of_fields(self.model, is_sent=True)


class Command(Message):
    """An intention, in the imperative: `class AddLine(Command, name="add-line")`.

    `creates=True` says that the command usually begins an aggregate. It is a hint that saves
    a read: the runtime first decides on the initial state, and the expected revision of the
    append fails if the aggregate exists already.

    `subject` is the field that names the subject of its personal data: see `Personal`. By default
    it is the aggregate's id.
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
    """What an event class declares, and how its events are written to the log."""

    by_alias: ClassVar[bool | None] = False
    """Whether fields are written under their aliases; None: as the class is configured."""

    model: type[Event]
    name: str
    version: int
    subject: str = ""

    @cached_property
    def personal(self) -> PersonalFields:
        """The fields that are personal data."""
        return personal_fields(self.model, self.subject)

    def encode(self, event: Event) -> bytes:
        """Return the event as JSON, with personal data marked, which is read back equal.

        Fields have their own names, even if the class says `serialize_by_alias`: personal data
        and the fields of old events are found by these names.

        The log is permanent, so what could not be read back is not written: a value that bypassed
        validation (`model_construct`, `replace`), NaN, or a type that becomes another in JSON.
        The check costs a few microseconds for each event.

        Raises:
            ValueError: the event would not be read back equal.
        """
        serialize = partial(event.__pydantic_serializer__.to_json, by_alias=self.by_alias)
        data = serialize(event, warnings=False)
        try:
            back = self.model.__pydantic_validator__.validate_json(data, extra="ignore")
        except ValidationError:
            _refuse_constants(data)  # its message says more
            raise
        # Equal fields and the same bytes settle nearly all events. The others may still be right
        # (a set has no order), and are compared closely.
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
        """Return the mistakes in the declaration, one sentence each."""
        found = misnamed(self.model, self.name, PASCAL, "PascalCase, like 'LineAdded'")
        return found + self.mistakes_of_schema()

    def mistakes_of_schema(self) -> list[str]:
        """Return the mistakes in the version and the fields, one sentence each."""
        name, found = self.model.__qualname__, []
        if self.version < 1:
            found.append(f"{name}: a schema version starts at 1, not {self.version}")
        found += mistakes_of_personal(self.model, self.subject)
        return found + mistakes_of_fields(self.model, by_alias=self.by_alias)


class Event(Message):
    """A fact, in the past tense: `class LineAdded(Event, name="LineAdded", version=2)`.

    The name is the event type on the log. `version` is the version of the schema, written into
    each event's metadata; when you raise it, add an upcaster from the version before.
    Events ignore unknown fields, so that an older reader can read what a newer writer wrote.
    `subject` is the field that names the subject of its personal data: see `Personal`. By
    default it is the id of the event's aggregate.
    """

    model_config = ConfigDict(extra="ignore")

    __rayfold__: ClassVar[EventDefinition]

    def __init_subclass__(
        cls, *, name: str = "", version: int = 1, subject: str = "", **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = EventDefinition(cls, name, version, subject)


def _told_apart(message: Message, back: Message) -> str:
    """Return a sentence that names the first field whose value JSON changes."""
    name = type(message).__qualname__
    for field, value in message.__dict__.items():
        other = back.__dict__.get(field)
        if other != value:
            change = became(value, other) or ": a validator or serializer changes it"
            return f"{name}.{field} does not come back from JSON as it was written{change}"
    return f"{name} does not come back from JSON as it was written"


def _refuse_constants(data: bytes) -> None:
    json.loads(data, parse_constant=_refuse_constant)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
