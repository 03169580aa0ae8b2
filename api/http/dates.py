"""Dates in text: pydantic would take a number in quotes for seconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel

from api.http.problems import invalid_field

_NUMBER = re.compile(r"\s*[+-]?[0-9]+(\.[0-9]*)?\s*\Z")


def date_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields that hold a date or an instant, and may hold no other text."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if any(
            isinstance(each, type) and issubclass(each, date) for each in _parts(field.annotation)
        )
        and str not in _parts(field.annotation)
    )


def refuse_numbers(fields: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse numbers in quotes where there must be a date.

    Raises:
        Problem: 422 that names the field.
    """
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and _NUMBER.match(value):
            raise invalid_field(name, "is no date or time in the forms of RFC 3339")


def _parts(annotation: Any) -> set[Any]:
    found = {annotation} if isinstance(annotation, type) else set()
    for each in get_args(annotation):
        found |= _parts(each)
    return found
