"""Keys of rows and values of indexes as text: equal values have the same text.

All stores find rows by this text, and stream names contain it.
"""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, FutureDate, FutureDatetime, PastDate, PastDatetime
from pydantic.fields import FieldInfo

from rayfold.values import to_utc

_PYDANTIC: dict[Any, type] = {
    AwareDatetime: datetime,
    PastDatetime: datetime,
    FutureDatetime: datetime,
    PastDate: date,
    FutureDate: date,
}
"""Pydantic's types that stand for a scalar type without deriving from it."""

_SCALARS = (str, bool, int, float, Decimal, UUID, datetime, date, timedelta)


class Scalar(NamedTuple):
    """The only scalar type of a field, apart from None. For an enum, the type of its values."""

    kind: type
    enum: type[Enum] | None
    least: int | None
    most: int | None
    """The bounds of an integer, if it is declared with any."""


def scalar_of(info: FieldInfo) -> Scalar | None:
    """Return the scalar type of a field, or None if the field cannot be a key or an index."""
    return _scalar(info.annotation, [*info.metadata])


def may_be_none(info: FieldInfo) -> bool:
    """Return whether a field may hold None, which has no key text."""
    annotation: Any = info.annotation
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return None in get_args(annotation)
    return annotation is None or NoneType in get_args(annotation)


def _scalar(annotation: Any, metadata: list[Any]) -> Scalar | None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for each in arguments[1:]:
            metadata += each.metadata if isinstance(each, FieldInfo) else [each]
        return _scalar(arguments[0], metadata)
    if origin in (Union, UnionType):
        members = [each for each in arguments if each is not NoneType]
        return _scalar(members[0], metadata) if len(members) == 1 else None
    if origin is Literal:
        return _of_values(list(arguments), None)
    if hasattr(annotation, "__supertype__"):  # typing.NewType
        return _scalar(annotation.__supertype__, metadata)
    annotation = _PYDANTIC.get(annotation, annotation)
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, Enum):
        return _of_values([each.value for each in annotation], annotation)
    kind = next((kind for kind in _SCALARS if issubclass(annotation, kind)), None)
    if kind is None:
        return None
    if kind is date and issubclass(annotation, datetime):
        kind = datetime
    if kind is not int:
        return Scalar(kind, None, None, None)
    least = [getattr(each, "ge", getattr(each, "gt", None)) for each in metadata]
    most = [getattr(each, "le", getattr(each, "lt", None)) for each in metadata]
    return Scalar(
        int,
        None,
        max((each for each in least if each is not None), default=None),
        min((each for each in most if each is not None), default=None),
    )


def _of_values(values: list[Any], enum: type[Enum] | None) -> Scalar | None:
    for kind in (str, bool, int):
        if values and all(isinstance(each, kind) for each in values):
            bounds = (min(values), max(values)) if kind is int else (None, None)
            return Scalar(kind, enum, *bounds)
    return None


def key_text(value: Any) -> str:
    """Return the canonical text of a value: `1.0` and `1.00` give the same text, and a `StrEnum`
    gives its value.

    Raises:
        ValueError: no store accepts the value: it has an unpaired surrogate, or is an instant that
            in UTC is outside the years 1 to 9999. Or it is None: else all rows without a value
            would share the key "None".
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            value.encode()
        return value  # type: ignore[no-any-return]
    if kind is UUID or kind is int:
        return str(value)
    return _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            raise ValueError("None cannot be a key")
        case Enum():
            return key_text(value.value)
        case bool():
            return "true" if value else "false"
        case datetime():
            in_utc = to_utc(value) if value.tzinfo else value
            return in_utc.isoformat().replace("+00:00", "Z")
        case Decimal():
            return _decimal_text(value)
        case float():
            return repr(value + 0.0)  # -0.0 is 0.0
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value // timedelta(microseconds=1))
        case bytes():
            return base64.urlsafe_b64encode(value).decode()
        case _:
            return str(value)


def printable(key: str) -> str:
    """Return a key as operators see and type it, with control characters escaped."""
    return key if key.isprintable() else json.dumps(key, ensure_ascii=False)[1:-1]


_LONGEST = 64
"""Digits up to which a decimal is written out; a longer one gets an exponent."""


def _decimal_text(value: Decimal) -> str:
    # `normalize` would round to the context's 28 digits, and give two values the same key.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return str(value)
    significant = "".join(map(str, digits)).lstrip("0")
    if not significant:
        return "0"
    shortest = significant.rstrip("0")
    exponent += len(significant) - len(shortest)
    minus = "-" if sign else ""
    if abs(exponent) > _LONGEST:
        return f"{minus}{shortest}E{exponent:+}"
    return format(Decimal(f"{minus}{shortest}E{exponent}"), "f")
