"""JSON that others may have written: it may be none, or nested deeper than anybody reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

UNREADABLE = (ValueError, RecursionError)
"""What decoding it may raise: msgspec's errors, and those of text that is no UTF-8, are values'."""

DEEPEST = 100
"""Levels of what is shown: whoever lays it out goes as deep, by more calls for each."""


def readable(data: bytes | str) -> Any:
    """Return JSON as plain data; as text where it is none, or too deep to be shown."""
    try:
        found = msgspec.json.decode(data)
    except UNREADABLE:
        return _text(data)
    return _text(data) if _is_too_deep(found) else found


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("utf-8", "replace")


def _is_too_deep(value: Any) -> bool:
    level = _nested([value])
    for _ in range(DEEPEST):
        level = _nested(
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        )
    return bool(level)


def _nested(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, list | dict)]
