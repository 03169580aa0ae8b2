"""Tries upcasters on events that the lock file allows.

The result for a sample is only a fault if every other value would have failed too: a missing field,
or a value of the wrong type. A fault that depends on the value (text that is not a member of an
enumeration, for example) may not occur with the values that were written, and is ignored. The
exception is a known value: the stand-ins for personal data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from deploy.authoring.catalogue.compatibility import Schema
from deploy.authoring.catalogue.samples import samples, what_is_left
from rayfold import Registry, UnknownEventType, UnreadableEvent

_KINDS = frozenset(
    ("string_type", "dict_type", "list_type", "tuple_type", "set_type", "frozen_set_type")
) | {"model_type", "bool_type", "int_type", "float_type", "decimal_type"}
"""Pydantic errors about a value's type, whatever the value."""


def complaints(registry: Registry, name: str, version: int, schema: Schema) -> list[str]:
    """Return a sentence for each result of upcasters from that version that cannot be read."""
    found: dict[str, str] = {}
    for sample in samples(schema):
        for told in _tried(registry, name, version, sample):
            found.setdefault(told, json.dumps(sample))
        left = what_is_left(schema, sample)
        error = _unread(registry, name, version, left)
        if error and not _unread(registry, name, version, sample):
            told = f"its upcaster fails on what is left of a forgotten person: {error}"
            found.setdefault(told, json.dumps(left))
    return [f"{told} (tried with {sample})" for told, sample in found.items()]


def becomes(registry: Registry, name: str, version: int, schema: Schema) -> set[str]:
    """Return the events that upcasters from that version make of samples."""
    found = set()
    for sample in samples(schema):
        with suppress(UnknownEventType, UnreadableEvent):
            read = registry.decode(name, json.dumps(sample).encode(), version, "check", 0)
            found |= {each.__rayfold__.name for each in read}
    return found


def _tried(registry: Registry, name: str, version: int, sample: Any) -> Iterator[str]:
    try:
        registry.decode(name, json.dumps(sample).encode(), version, "check", 0)
    except UnknownEventType as error:
        yield f"its upcaster returns {error.event_type}, which no class declares"
    except UnreadableEvent as error:
        match error.__cause__:
            case ValidationError() as refused:
                yield from _certain(refused)
            case KeyError() as missed if missed.args and missed.args[0] not in _values(sample):
                yield f"its upcaster reads {missed.args[0]!r}, which old events may lack"


def _unread(registry: Registry, name: str, version: int, sample: Any) -> str:
    """Return why a sample cannot be read; "" if it can."""
    try:
        registry.decode(name, json.dumps(sample).encode(), version, "check", 0)
    except (UnknownEventType, UnreadableEvent) as error:
        return repr(error.__cause__ or error)
    return ""


def _certain(refused: ValidationError) -> Iterator[str]:
    """Yield the faults of a field, unless it also has one that depends on its value."""
    errors = refused.errors(include_url=False)
    unsure = {
        each["loc"][:1]
        for each in errors
        if each["type"] != "missing" and each["type"] not in _KINDS
    }
    for each in errors:
        where = ".".join(str(part) for part in each["loc"])
        if each["loc"][:1] in unsure:
            continue
        if each["type"] == "missing":
            yield f"{where}: its upcaster gives it no value"
        else:
            yield f"{where}: its upcaster gives {type(each['input']).__name__}: {each['msg']}"


def _values(value: Any) -> Iterator[Any]:
    """Yield all values inside a value: an upcaster may look them up in a table of its own."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each)
    else:
        yield value
