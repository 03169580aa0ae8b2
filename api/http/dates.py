"""Checks of dates in JSON: pydantic would take a number in quotes for seconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date
from itertools import repeat
from typing import Any

from pydantic import BaseModel

from api.http.problems import invalid_field
from rayfold.core_schemas import kinds_of

_NUMBER = re.compile(r"\s*[+-]?[0-9]+(\.[0-9]*)?\s*\Z")


def has_dates(model: type[BaseModel]) -> bool:
    """Return whether there is a date or a datetime anywhere in the model."""
    return not kinds_of(model).isdisjoint(("date", "datetime"))


def refuse_numbers(read: Any, given: Any, where: tuple[str, ...] = ()) -> None:
    """Refuse quoted numbers that were read as a date; `given` is the JSON from which `read` came.

    This is checked after reading, because only then is it known which member a union has.

    Raises:
        Problem: 422 that names the field.
    """
    if isinstance(read, date):
        if isinstance(given, str) and _NUMBER.match(given):
            raise invalid_field(".".join(where), "is not a date or time in the form of RFC 3339")
    elif isinstance(given, Mapping):
        fields = getattr(read, "__dict__", read)
        for name, each in given.items() if isinstance(fields, Mapping) else ():
            if name in fields:
                refuse_numbers(fields[name], each, (*where, name))
    elif isinstance(given, list) and isinstance(read, Collection):
        # A set has another order and may have fewer items: all have the type of the first.
        items = repeat(next(iter(read), None)) if isinstance(read, set | frozenset) else read
        for place, (value, each) in enumerate(zip(items, given, strict=False)):
            refuse_numbers(value, each, (*where, str(place)))
