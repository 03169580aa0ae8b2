"""How a long body is read: each collection in it is given up at its first mistake.

pydantic finds all mistakes there are. A megabyte of `{}`, in a list of what has five fields, has
1.7 million: the gateway stood still for ten seconds over one request, and took 1.7 GB. Names that
no field has are mistakes too, and a megabyte of those took half a second; pydantic knows no end
to them, so they are counted before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

from rayfold.core_schemas import definitions_of, fields_within

LONG = 16 * 1024
"""Bytes. In a shorter body all mistakes are told: they may be as many as a form has fields."""

MOST_STRANGERS = 100
"""Names of one object that no field has, and pydantic may tell of one by one."""

_COLLECTIONS = {
    "list", "deque", "tuple", "set", "frozenset",
    "dict", "frozendict", "ordered-dict", "counter",
}  # fmt: skip
_NO_SCHEMAS = {
    "metadata", "serialization", "default", "function", "config", "cls", "members",
}  # fmt: skip
_BY_NAME = {"fields", "choices"}
"""What has schemas by names that are the author's: a field may be called `type`, or `default`."""


def validator_of_long(model: type[BaseModel]) -> SchemaValidator:
    """Return what reads the same as the model's own validator, and tells less of what it is not."""
    # Else models would be read by the validators that they have.
    return SchemaValidator(_hasty(model.__pydantic_core_schema__), _use_prebuilt=False)


def stranger(model: type[BaseModel], fields: Mapping[str, Any]) -> str | None:
    """Return a name that no field has, where one object has very many of them."""
    schema = model.__pydantic_core_schema__
    return next(_strangers(schema, fields, definitions_of(schema)), None)


def _strangers(node: Any, value: Any, definitions: Mapping[str, Any]) -> Iterator[str]:
    """Yield one name of each object that has too many, along the schema of what it is in."""
    match node, value:
        case {"type": "definition-ref", "schema_ref": ref}, _:
            yield from _strangers(definitions[ref], value, definitions)
        case {"type": "model-fields", "fields": fields}, dict():
            for name in fields.keys() & value.keys():
                yield from _strangers(fields[name]["schema"], value[name], definitions)
        case {"type": "model", "schema": inner, "config": config}, dict():
            known = dict(fields_within(inner, definitions))
            others = value.keys() - known.keys()  # one more for each that has an alias
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
