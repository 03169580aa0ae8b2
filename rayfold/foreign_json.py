"""JSON from other systems, which may be invalid or very deeply nested."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

UNREADABLE = (ValueError, RecursionError)
"""What decoding may raise: msgspec's errors and those of invalid UTF-8 are ValueErrors."""

DEEPEST = 100
"""The most levels that are shown: code that formats the value makes several calls for each."""


def readable(data: bytes | str) -> Any:
    """Return JSON as plain data; as text if it is invalid or too deep to be shown."""
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
