"""Validation of long bodies, which stops within each collection at its first mistake.

pydantic reports every mistake. A megabyte of `{}`, in a list of models with five fields, has 1.7
million: one such request blocked the gateway for ten seconds and took 1.7 GB. Unknown field names
are mistakes too, and a megabyte of those took half a second. pydantic cannot stop early at
unknown names, so they are counted before it validates.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

LONG = 16 * 1024
"""Bytes. For a shorter body all mistakes are reported, so that a form can show them all."""

MOST_STRANGERS = 100
"""The most unknown names in one object that pydantic may report one by one."""

_COLLECTIONS = {
    "list", "deque", "tuple", "set", "frozenset",
    "dict", "frozendict", "ordered-dict", "counter",
}  # fmt: skip
_NO_SCHEMAS = {
    "metadata", "serialization", "default", "function", "config", "cls", "members",
}  # fmt: skip
_BY_NAME = {"fields", "choices"}
"""Keys whose values are schemas by the author's names: a field may be called `type`, say."""


def validator_of_long(model: type[BaseModel]) -> SchemaValidator:
    """Return a validator that accepts the same as the model's own, but reports fewer mistakes."""
    # Else pydantic would use the existing validators of nested models.
    return SchemaValidator(_hasty(model.__pydantic_core_schema__), _use_prebuilt=False)


def stranger(model: type[BaseModel], fields: Mapping[str, Any]) -> str | None:
    """Return an unknown name if an object has more than `MOST_STRANGERS` of them, else None."""
    schema = model.__pydantic_core_schema__
    return next(_strangers(schema, fields, definitions_of(schema)), None)


def _strangers(node: Any, value: Any, definitions: Mapping[str, Any]) -> Iterator[str]:
    """Yield one unknown name of each object that has too many, following the schema."""
    match node, value:
        case {"type": "definition-ref", "schema_ref": ref}, _:
            yield from _strangers(definitions[ref], value, definitions)
        case {"type": "model-fields", "fields": fields}, dict():
            for name in fields.keys() & value.keys():
                yield from _strangers(fields[name]["schema"], value[name], definitions)
        case {"type": "model", "schema": inner, "config": config}, dict():
            known = dict(fields_within(inner, definitions))
            others = value.keys() - known.keys()  # a field with an alias has two names
            most = MOST_STRANGERS + len(known)
            if config.get("extra_fields_behavior") == "forbid" and len(others) > most:
                yield min(others)
            yield from _strangers(inner, value, definitions)
        case {"type": "union", "choices": choices}, dict() | list():
            schemas = (each[0] if isinstance(each, tuple) else each for each in choices)
            found = [next(_strangers(each, value, definitions), None) for each in schemas]
            if None not in found:  # else it may be another one of them
                yield from filter(None, found)
        case {"type": "tagged-union", "discriminator": str(tag), "choices": choices}, dict():
            if chosen := choices.get(str(value.get(tag))):
                yield from _strangers(chosen, value, definitions)
        case {"type": "dict", "values_schema": inner}, dict():
            for each in value.values():
                yield from _strangers(inner, each, definitions)
        case {"items_schema": [*schemas]}, list():
            for n, each in enumerate(value if schemas else ()):
                yield from _strangers(schemas[min(n, len(schemas) - 1)], each, definitions)
        case {"items_schema": inner}, list():
            for each in value:
                yield from _strangers(inner, each, definitions)
        case (
            ({"schema": inner} | {"json_schema": inner} | {"strict_schema": inner}),
            dict() | list(),
        ):
            yield from _strangers(inner, value, definitions)


def _hasty(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return type(node)(map(_hasty, node))
    if not isinstance(node, dict):
        return node
    copied = {name: _hasty_part(name, each) for name, each in node.items()}
    return {**copied, "fail_fast": True} if node.get("type") in _COLLECTIONS else copied


def _hasty_part(name: str, part: Any) -> Any:
    if name in _NO_SCHEMAS:
        return part
    if name in _BY_NAME and isinstance(part, dict):
        return {each: _hasty(schema) for each, schema in part.items()}
    return _hasty(part)
