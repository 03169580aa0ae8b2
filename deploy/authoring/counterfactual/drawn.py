"""Compares two events, ignoring values that a decision draws: random ids, a factory's values.

These cannot be reproduced. A value counts as drawn if two decisions give different ones, or if a
factory made it and not the decision: the hour of the day is the same in both.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class _Drawn(str):
    __slots__ = ()


DRAWN = _Drawn("(drawn)")
"""Stands for any value; a text, as reports show it. Compare with `is`."""

_FIXED = (list, dict, set, frozenset, tuple)
"""Factories that return the same value each time."""


def without_drawn(event: BaseModel, once: Any, again: Any) -> Any:
    """Return an event's JSON `once` with `DRAWN` for drawn values; `again` was decided after it."""
    return _by_factory(event, _unlike(once, again))


def says(now: Any, then: Any) -> bool:
    """Return whether the event recorded `then` equals `now`, which may have `DRAWN`."""
    if now is DRAWN:
        return True
    if isinstance(now, dict) and isinstance(then, dict):
        return now.keys() == then.keys() and all(says(now[each], then[each]) for each in now)
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(says, now, then))
    return type(now) is type(then) and bool(now == then)


def _unlike(one: Any, two: Any) -> Any:
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return {key: _unlike(one[key], two[key]) for key in one}
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return [_unlike(*pair) for pair in zip(one, two, strict=True)]
    return one if type(one) is type(two) and one == two else DRAWN


def _by_factory(value: Any, data: Any) -> Any:
    if isinstance(value, BaseModel) and isinstance(data, dict):
        found = dict(data)
        for name, info in type(value).model_fields.items():
            if name not in found:
                continue
            made = info.default_factory is not None and name not in value.model_fields_set
            if made and info.default_factory not in _FIXED:
                found[name] = DRAWN
            else:
                found[name] = _by_factory(getattr(value, name), found[name])
        return found
    if isinstance(value, list | tuple) and isinstance(data, list):
        return [_by_factory(*pair) for pair in zip(value, data, strict=False)]
    if isinstance(value, dict) and isinstance(data, dict) and len(value) == len(data):
        pairs = zip(value.values(), data.items(), strict=True)
        return {key: _by_factory(each, written) for each, (key, written) in pairs}
    return data
