"""A field as a column of a Postgres table: its SQL type and the conversion of its values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import create_model
from pydantic.fields import FieldInfo

from rayfold.keys import Scalar, key_text, scalar_of
from rayfold.messages import Message

SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
"""Every table in Postgres has these columns, so no other column may have these names."""

_MOST = 2**63 - 1

_DAY = 24 * 60 * 60 * 10**6
"""Microseconds."""

_SQL_TYPES: dict[type, str] = {
    UUID: "uuid",
    bool: "boolean",
    float: "double precision",
    Decimal: "numeric",
    datetime: "timestamptz",
    date: "date",
    timedelta: "interval",
    str: "text",
}


_WHOLE, _BEHIND = 131_072, 16_383
"""The most digits of a `numeric` before and after the decimal point (Postgres manual, 8.1.2)."""


def plain(value: Decimal) -> Decimal:
    """Return a decimal as every store returns it: `1E+4` becomes `10000`, and `-0` becomes `0`.

    asyncpg reads a `numeric` 10000 as `1E+4`. A decimal that Postgres cannot store is returned
    unchanged: eleven characters in a command can stand for a billion digits.
    """
    if not value:
        # The integer part of a zero has one digit: Postgres drops the others.
        return value.copy_abs() if value.adjusted() <= 0 and _fits(value) else Decimal(0)
    return Decimal(format(value, "f")) if _fits(value) else value


def numeric(value: Decimal) -> Decimal:
    """Return the value, checked to be a decimal that a `numeric` can hold.

    asyncpg silently turns some decimals that a `numeric` cannot hold into 0.

    Raises:
        ValueError: a `numeric` cannot hold it.
        TypeError: it is not a decimal, since `model_construct` does not validate.
    """
    if not isinstance(value, Decimal):
        raise TypeError(f"the value must be a Decimal, not of type {type(value).__name__}")
    if value.is_finite() and not _fits(value):
        raise ValueError(f"Postgres keeps {_WHOLE} digits before the point and {_BEHIND} behind it")
    return value


def _fits(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= _BEHIND and value.adjusted() < _WHOLE


class JsonAdapter:
    """Encodes and decodes a field's value as JSON, by the rules of its model."""

    _BEFORE, _BEHIND = b'{"value":', b"}"

    def __init__(self, info: FieldInfo) -> None:
        value: Any = (info.rebuild_annotation(), ...)
        self._model: Any = create_model("Value", __base__=Message, value=value)

    def encode(self, value: Any) -> str:
        """Return the value as JSON."""
        held = self._model.model_construct(value=value)
        data: bytes = held.__pydantic_serializer__.to_json(held)
        return data[len(self._BEFORE) : -len(self._BEHIND)].decode()

    def decode(self, data: str) -> Any:
        """Return the value that was encoded."""
        held = self._BEFORE + data.encode() + self._BEHIND
        return self._model.__pydantic_validator__.validate_json(held, extra="ignore").value


_ENDS = {
    "date": (key_text(date.min), key_text(date.max)),
    "timestamptz": tuple(key_text(end.replace(tzinfo=UTC)) for end in (datetime.min, datetime.max)),
}


class Column(NamedTuple):
    """A field's column.

    `scalar` is the field's type if SQL has such a type. Otherwise `adapter` encodes values as
    JSON. `to_sql` and `from_sql` convert the field's value to the driver's, and back.
    """

    field: str
    sql_type: str
    scalar: Scalar | None
    adapter: JsonAdapter | None
    to_sql: Callable[[Any], Any] | None = None
    from_sql: Callable[[Any], Any] | None = None

    @property
    def quoted(self) -> str:
        """The column's name in SQL."""
        return f'"{self.field}"'

    def value(self, parameter: str) -> str:
        """Return SQL that converts the key text in `parameter` to the column's type.

        See `rayfold.keys.key_text`.
        """
        match self.sql_type:
            case "interval":
                # Days are separate: microseconds alone would exceed 64 bits after 292,000 years.
                days = f"div({parameter}::text::numeric, {_DAY})::int"
                rest = f"mod({parameter}::text::numeric, {_DAY}) * interval '1 microsecond'"
                return f"(make_interval(days => {days}) + {rest})"
            case "bigint":
                # A number outside the range is not an error: no row has it, and the index is used.
                return (
                    f"CASE WHEN {parameter}::text::numeric BETWEEN -{_MOST} - 1 AND {_MOST}"
                    f" THEN {parameter}::text::bigint END"
                )
            case "numeric":
                # Likewise here: `key_text` writes an exponent if there are many digits.
                text = f"{parameter}::text"
                digits = f"length(ltrim(split_part({text}, 'E', 1), '-'))"
                exponent = f"coalesce(nullif(split_part({text}, 'E', 2), ''), '0')::bigint"
                fits = f"{exponent} BETWEEN -{_BEHIND} AND {_WHOLE} - {digits}"
                return f"CASE WHEN {fits} THEN {text}::numeric END"
            case "date" | "timestamptz":
                # asyncpg writes the earliest and the latest date or datetime as infinity.
                first, last = _ENDS[self.sql_type]
                return (
                    f"CASE {parameter}::text WHEN '{first}' THEN '-infinity'::{self.sql_type}"
                    f" WHEN '{last}' THEN 'infinity'::{self.sql_type}"
                    f" ELSE {parameter}::text::{self.sql_type} END"
                )
            case _:
                return f"{parameter}::text::{self.sql_type}"


def column_of(field: str, info: FieldInfo) -> Column:
    """Return the column of a field: of the corresponding SQL type if there is one, else JSON."""
    scalar = scalar_of(info)
    if scalar is None:
        return Column(field, "json", None, JsonAdapter(info))
    to_sql: Callable[[Any], Any] | None = _value_of if scalar.enum is not None else None
    if scalar.kind is Decimal:
        to_sql = numeric
    if scalar.kind is not int:
        from_sql = _FROM_SQL.get(scalar.kind)
        return Column(field, _SQL_TYPES[scalar.kind], scalar, None, to_sql, from_sql)
    small = scalar.least is not None and scalar.most is not None
    if small and -_MOST <= (scalar.least or 0) <= (scalar.most or 0) <= _MOST:
        return Column(field, "bigint", scalar, None, to_sql)
    return Column(field, "numeric", scalar, None, to_sql, int)


def aware(moment: datetime) -> datetime:
    """Return a datetime with a zone: asyncpg returns the earliest and the latest without one."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_FROM_SQL: dict[type, Callable[[Any], Any]] = {datetime: aware, Decimal: plain}


def _value_of(member: Any) -> Any:
    return getattr(member, "value", member)
