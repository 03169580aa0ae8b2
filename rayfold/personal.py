"""Personal data: fields about a person, who may ask to be forgotten.

On the log such a field's value is encrypted with a key of its *subject*. `rayfold forget SUBJECT`
destroys the key, and with it every value of that subject in every copy of the log. This module is
the part that a domain sees, which is little: values are plain until their key is destroyed.

Between a message and the log a value is *marked*: in the JSON, its place holds
`{"$personal": {"value": …, "of": "ada"}}`. Whatever copies the JSON (a process that received the
event, a command that is sent later) copies the mark too, and the code that encrypts finds the mark
wherever it is. `of` is the subject as the message has it; once the message's tenant is known,
`subject` replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import PydanticUserError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import from_json, to_json

from rayfold.field_checks import checks_of
from rayfold.keys import key_text
from rayfold.tenants import within

if TYPE_CHECKING:
    from pydantic import BaseModel, GetJsonSchemaHandler
    from pydantic.fields import FieldInfo

T = TypeVar("T")

FORGOTTEN: Final = "[forgotten]"
"""The value of a forgotten subject's text field; a field that may be None becomes None."""

MARK: Final = "$personal"
"""The JSON key of a marked or encrypted value. No field may hold it otherwise."""

MOST_SUBJECT = 1024
"""The most bytes of a subject's text: the same limit as for an aggregate's id."""

_MARKED = b'"$personal"'


@dataclass(frozen=True)
class PersonalData:
    """Says that a field is personal data: `Annotated[str, PersonalData(subject="recipient_id")]`.

    `subject` is the field of the same message that names the subject. By default it is the
    subject of the class: see `Event` and `Command`.
    """

    subject: str = ""

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Mark the field in the JSON schema, for the event catalogue and for OpenAPI clients."""
        return {**handler(core_schema), "x-personal": True}


Personal = Annotated[T, PersonalData()]
"""A field of an event or a command that is personal data: `email: Personal[str]`.

The value always has the type `T`. Once its subject is forgotten, it is None if `T` accepts None,
else `FORGOTTEN` if `T` accepts a text. A type that accepts neither is refused.
"""


@dataclass(frozen=True)
class PersonalField:
    """A message's field with personal data. `subject` is the field that names the subject; empty
    means the aggregate's id."""

    subject: str
    stand_in: str | None


PersonalFields = dict[str, PersonalField]


def personal_fields(model: type[BaseModel], subject: str) -> PersonalFields:
    """Return the model's fields that are personal data; `subject` is the class's default."""
    return {
        name: PersonalField(said.subject or subject, stand_in_of(model, name, None))
        for name, info in model.model_fields.items()
        if (said := _said(info)) is not None
    }


def mistakes_of_personal(model: type[BaseModel], subject: str) -> Iterator[str]:
    """Yield the mistakes in the declarations of personal data, one sentence each."""
    name, fields = model.__qualname__, model.model_fields
    try:
        model.model_rebuild()
    except (PydanticUserError, NameError):
        return  # reported elsewhere
    found = {field: said for field, info in fields.items() if (said := _said(info)) is not None}
    for field, said in found.items():
        whose = said.subject or subject
        if whose and (whose not in fields or whose in found):
            yield f"{name}.{field} is of {whose!r}, which cannot say who somebody is"
        if stand_in_of(model, field, _NONE) is _NONE:
            yield (
                f"{name}.{field} accepts neither a text nor None, and has to be one of them once"
                " it is forgotten: make it Personal[… | None]"
            )
    if subject and not found:
        yield f"{name} says whose its personal data is, but has no personal data"
    for field, info in fields.items():
        if _hides(info.annotation, set()):
            yield (
                f"{name}.{field} has personal data within: make the whole field Personal[…], as"
                " only a message's own fields are encrypted"
            )


def mark(data: bytes, fields: PersonalFields, message: BaseModel) -> bytes:
    """Return a message's JSON with its personal data marked, and without computed fields.

    Computed fields could repeat the personal data in the clear, and nothing reads them.

    Raises:
        ValueError: something else in the JSON looks like a mark, or a field is not where expected.
    """
    refuse_marks(data)
    own = type(message).model_fields
    found = {name: value for name, value in from_json(data).items() if name in own}
    for name, field in fields.items():
        if name not in found:
            raise ValueError(f"{name} is personal data, and is not written under its name")
        value = found[name]
        if value is None or value == field.stand_in:
            continue  # there is no personal data to mark
        marked: dict[str, Any] = {"value": value}
        if field.subject:
            marked["of"] = _whose(message, name, field.subject)
        if field.stand_in is None:
            marked["forgotten"] = None
        found[name] = {MARK: marked}
    return dump(found)


def marked(data: bytes, of: str) -> bytes:
    """Return the JSON marked as a whole as personal data of the subject `of`."""
    return dump({MARK: {"value": from_json(data), "subject": of}})


def of_tenant(data: bytes, tenant: str) -> bytes:
    """Return marked JSON whose subjects include the tenant; unchanged if `tenant` is empty."""

    def say(found: dict[str, Any], path: tuple[str, ...]) -> Any:
        marked = dict(found[MARK])
        if "of" in marked:
            marked["subject"] = within(tenant, marked.pop("of"))
        return {MARK: marked}

    return dump(replaced(from_json(data), say)) if tenant and is_marked(data) else data


def refuse_marks(data: bytes) -> None:
    """Refuse JSON that would be mistaken for marked personal data.

    Raises:
        ValueError: it contains a mark.
    """
    if _MARKED in data and _any_mark(from_json(data)):
        raise ValueError(f"{MARK!r} as a key is kept for personal data")


def plain(data: bytes) -> bytes:
    """Return JSON with each mark replaced by its value.

    Raises:
        ValueError: a value is still encrypted: the reader of the log was given no keys.
    """
    return dump(unmarked(from_json(data))) if _MARKED in data else data


def unmarked(found: Any) -> Any:
    """Return decoded JSON with each mark replaced by its value, as `plain` does."""
    return replaced(found, _value_of)


def replaced(found: Any, by: Callable[[dict[str, Any], tuple[str, ...]], Any], *path: str) -> Any:
    """Return decoded JSON with each marked value replaced by the result of `by`.

    `by` gets the object with the mark and its path.
    """
    if isinstance(found, dict):
        if MARK in found:
            return by(found, path)
        return {name: replaced(each, by, *path, name) for name, each in found.items()}
    if isinstance(found, list):
        return [replaced(each, by, *path, str(at)) for at, each in enumerate(found)]
    return found


def is_marked(data: bytes) -> bool:
    """Return whether JSON may contain a mark. False is certain, True is not."""
    return _MARKED in data


def dump(found: Any) -> bytes:
    """Return the value as JSON without spaces, as messages are written."""
    return to_json(found)


def stand_in_of(model: type[BaseModel], field: str, otherwise: Any) -> Any:
    """Return the field's value once its subject is forgotten; `otherwise` if it accepts neither
    None nor `FORGOTTEN`.

    The author's validators are applied too: the event must be readable afterwards.
    """
    checks = checks_of(model)
    for each in (None, FORGOTTEN):
        try:
            if checks.validated({}, field, each) == each:
                return each
        except (Exception, SystemExit):  # a validator may raise anything
            continue
    return otherwise


_NONE: Final = object()


def _whose(message: object, name: str, subject: str) -> str:
    whose = getattr(message, subject)
    if whose is None:
        raise ValueError(f"{name} is personal data, but {subject} does not say whose")
    text = key_text(whose)
    if len(text.encode()) > MOST_SUBJECT:
        raise ValueError(f"{subject} says whose {name} is, in more than {MOST_SUBJECT} bytes")
    return text


def _said(info: FieldInfo) -> PersonalData | None:
    return next((each for each in info.metadata if isinstance(each, PersonalData)), None)


def _hides(annotation: Any, seen: set[Any]) -> bool:
    """Return whether personal data is declared somewhere within a type."""
    if any(isinstance(each, PersonalData) for each in getattr(annotation, "__metadata__", ())):
        return True
    fields: dict[str, FieldInfo] = getattr(annotation, "model_fields", None) or {}
    if isinstance(annotation, type) and get_origin(annotation) is None and fields:
        if annotation in seen:
            return False
        seen.add(annotation)
        return any(
            _said(info) is not None or _hides(info.annotation, seen) for info in fields.values()
        )
    if (alias := getattr(annotation, "__value__", None)) is not None:  # `type Email = …`
        return _hides(alias, seen)
    if isinstance(annotation, type) and getattr(annotation, "__annotations__", None):
        if annotation in seen:
            return False
        seen.add(annotation)
        try:
            hints = get_type_hints(annotation, include_extras=True)
        except Exception:  # an unreadable alias is reported elsewhere
            return False
        return _any_hides(hints.values(), seen)
    return _any_hides(get_args(annotation), seen)


def _any_hides(annotations: Iterable[Any], seen: set[Any]) -> bool:
    return any(_hides(each, seen) for each in annotations)


def _any_mark(found: Any) -> bool:
    if isinstance(found, dict):
        return MARK in found or any(map(_any_mark, found.values()))
    return isinstance(found, list) and any(map(_any_mark, found))


def _value_of(found: dict[str, Any], path: tuple[str, ...]) -> Any:
    marked = found[MARK]
    if isinstance(marked, dict) and "value" in marked:
        return marked["value"]
    key = str(marked).partition(".")[0]
    raise ValueError(
        f"{'.'.join(path)} is encrypted under the key {key}, and does not decrypt: the key is not"
        " there, or the value was never here. See docs/how-to/forget-a-person.md"
    )
