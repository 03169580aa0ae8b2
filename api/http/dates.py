"""Dates in text: pydantic would take a number in quotes for seconds since 1970."""

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
    """Return whether a date or an instant stands anywhere in the model."""
    return not kinds_of(model).isdisjoint(("date", "datetime"))


def refuse_numbers(read: Any, given: Any, where: tuple[str, ...] = ()) -> None:
    """Refuse numbers in quotes of which a date was read; `given` is the JSON of what was read.

    What a union was read as is known afterwards alone.

    Raises:
        Problem: 422 that names the field.
    """
    if isinstance(read, date):
        if isinstance(given, str) and _NUMBER.match(given):
            raise invalid_field(".".join(where), "is no date or time in the forms of RFC 3339")
    elif isinstance(given, Mapping):
        fields = getattr(read, "__dict__", read)
        for name, each in given.items() if isinstance(fields, Mapping) else ():
            if name in fields:
                refuse_numbers(fields[name], each, (*where, name))
    elif isinstance(given, list) and isinstance(read, Collection):
        # A set has another order, and may have less: what one of it is, all are.
        items = repeat(next(iter(read), None)) if isinstance(read, set | frozenset) else read
        for place, (value, each) in enumerate(zip(items, given, strict=False)):
            refuse_numbers(value, each, (*where, str(place)))
