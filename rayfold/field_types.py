"""Types of fields that would not come back as they were written, found before anybody does.

They are looked for in what pydantic makes of the annotations, so that it does not matter
how deep in a union, a list or another model they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError

from rayfold.values import to_utc

if TYPE_CHECKING:
    from pydantic import BaseModel

_UNWRITABLE = {
    "callable": "a callable",
    "is-subclass": "a class",
    "generator": "a generator, which is gone once it was read",
}


def mistakes_of_fields(model: type[BaseModel], *, utc_only: bool = False) -> list[str]:
    """Return a sentence for each field whose values would be lost or changed on the way.

    `utc_only`: instants must be in UTC, not just have an offset.
    """
    name = model.__qualname__
    try:
        model.model_rebuild()
        schema = model.__pydantic_core_schema__
    except (PydanticUserError, NameError) as error:
        return [f"{name}: {str(error).splitlines()[0]}"]
    found = []
    for field, info in model.model_fields.items():
        if info.exclude:
            found.append(f"{name}.{field} is excluded from JSON, so it would be lost")
    for field, node in _fields_of(schema):
        reasons = dict.fromkeys(_reasons(node, _definitions_of(schema), utc_only))
        found += [f"{name}.{field} {reason}" for reason in reasons]
    return found


def holds(model: type[BaseModel], *kinds: str) -> bool:
    """Return whether a value of one of these kinds of pydantic's schema may be in the model."""
    schema = model.__pydantic_core_schema__
    definitions = _definitions_of(schema)
    return any(
        node.get("type") in kinds
        for _, field in _fields_of(schema)
        for node in _nodes(field, definitions, set())
    )


def _reasons(node: Any, definitions: dict[str, Any], utc_only: bool) -> Iterator[str]:
    for each in _nodes(node, definitions, set()):
        kind = each.get("type")
        if kind == "datetime" and (each.get("tz_constraint") != "aware" or utc_only):
            yield "is a datetime that is not one instant everywhere: use rayfold.UtcDatetime"
        elif kind in _UNWRITABLE and "serialization" not in each:
            yield f"is {_UNWRITABLE[kind]}: that cannot be written as JSON"


def _nodes(node: Any, definitions: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list | tuple):
        for each in node:
            yield from _nodes(each, definitions, seen)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind == "definition-ref":
        ref = node["schema_ref"]
        if ref not in seen and ref in definitions:
            yield from _nodes(definitions[ref], definitions, seen | {ref})
        return
    if kind == "function-after" and node["function"].get("function") is to_utc:
        return
    if isinstance(kind, str):
        yield node
    for name, each in node.items():
        if name not in ("metadata", "serialization", "default", "ref"):
            yield from _nodes(each, definitions, seen)


def _fields_of(schema: Any) -> list[tuple[str, Any]]:
    while schema.get("type") != "model-fields":
        if "schema" not in schema:
            return []
        schema = schema["schema"]
        if schema.get("type") == "definition-ref":
            return []
    return list(schema["fields"].items())


def _definitions_of(schema: Any) -> dict[str, Any]:
    return {each["ref"]: each for each in schema.get("definitions", ())}
