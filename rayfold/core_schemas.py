"""Searches in the core schema that pydantic makes of a model's annotations.

They look at any depth: within unions, lists and other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rayfold.ordered_sets import ordered
from rayfold.values import to_utc

_FIELDS = ("model-fields", "dataclass-args", "typed-dict")

OPAQUE = "lax-or-strict"
"""The kind of schema that pydantic makes for IP addresses and paths, which are text in JSON."""


def holds(model: type[BaseModel], *kinds: str) -> bool:
    """Return whether the model may hold a value whose pydantic schema is one of these kinds."""
    schema = model.__pydantic_core_schema__
    definitions = definitions_of(schema)
    return any(
        node.get("type") in kinds
        for _, field in fields_of(schema)
        for node in nodes_within(field, definitions)
    )


def has_functions(model: type[BaseModel]) -> bool:
    """Return whether functions of the author's, validators for instance, make values on reading."""
    return any("post_init" in each or is_validator(each) for each in all_nodes(model))


def has_serializers(model: type[BaseModel]) -> bool:
    """Return whether functions of the author's write values."""
    return any(is_called(each.get("serialization", {})) for each in all_nodes(model))


def kinds_of(model: type[BaseModel]) -> frozenset[str]:
    """Return the kinds of all pydantic schemas in the model."""
    return frozenset(each["type"] for each in all_nodes(model))


def models_in(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the model and all models nested in it."""
    return list(dict.fromkeys([model, *(each["cls"] for each in all_nodes(model, "model"))]))


def all_nodes(model: type[BaseModel], kind: str = "") -> Iterator[dict[str, Any]]:
    """Yield all schemas in a model, or only those of one kind."""
    schema = model.__pydantic_core_schema__
    found = nodes_within(schema, definitions_of(schema))
    return (each for each in found if kind in ("", each["type"]))


def nodes_within(
    node: Any, definitions: dict[str, Any], seen: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas within it; a recursive model only once."""
    if isinstance(node, list | tuple):
        for each in node:
            yield from nodes_within(each, definitions, seen)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind == OPAQUE:
        yield node
        return
    if kind == "definition-ref":
        ref = node["schema_ref"]
        if ref not in seen and ref in definitions:
            yield from nodes_within(definitions[ref], definitions, seen | {ref})
        return
    if kind == "function-after" and node["function"].get("function") is to_utc:
        return
    if isinstance(kind, str):
        yield node
    for name, each in node.items():
        if name not in ("metadata", "serialization", "default", "ref"):
            yield from nodes_within(each, definitions, seen)


def is_authors(node: dict[str, Any]) -> bool:
    """Return whether a function of the author's reads or writes this schema's values."""
    return is_validator(node) or is_called(node.get("serialization", {}))


def is_validator(node: dict[str, Any]) -> bool:
    """Return whether a function of the author's reads this schema's values."""
    return node["type"].startswith("function") and is_called(node)


def is_called(node: dict[str, Any]) -> bool:
    """Return whether a function is called, as opposed to a class that makes the value."""
    function = node.get("function")
    if isinstance(function, dict):
        function = function.get("function")
    return function not in (None, ordered) and not isinstance(function, type)


def fields_of(schema: Any) -> list[tuple[str, Any]]:
    """Return the names and schemas of a model's fields, from its schema."""
    return fields_within(schema, definitions_of(schema))


def fields_within(node: Any, definitions: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields of a model, a dataclass or a TypedDict, each with its schema."""
    while node.get("type") not in _FIELDS:
        if node.get("type") == "definition-ref":  # a recursive model
            node = definitions[node["schema_ref"]]
        elif "schema" in node:
            node = node["schema"]
        else:
            return []
    fields = node["fields"]
    return list(
        fields.items() if isinstance(fields, dict) else ((each["name"], each) for each in fields)
    )


def around_fields(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas between the model's own schema and those of its fields."""
    definitions = definitions_of(schema)
    while schema.get("type") not in _FIELDS:
        yield schema
        ref = schema.get("schema_ref")
        schema = definitions[ref] if ref else schema.get("schema", {"type": "model-fields"})


def config_of(node: Any) -> Any:
    """Return the configuration of a schema's model."""
    definitions = definitions_of(node)
    while node.get("type") != "model":
        node = definitions[node["schema_ref"]] if "schema_ref" in node else node["schema"]
    return node.get("config", {})


def definitions_of(schema: Any) -> dict[str, Any]:
    """Return by name the definitions that schemas within refer to."""
    return {each["ref"]: each for each in schema.get("definitions", ())}
