"""Types of fields that would not come back as they were written, found before anybody does.

They are looked for in what pydantic makes of the annotations, so that it does not matter
how deep in a union, a list or another model they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, PydanticUserError, SecretStr

from rayfold.ordered_sets import SetsInOrder, ordered, writes_in_any_order
from rayfold.values import to_utc

_UNWRITABLE = {
    "callable": "a callable",
    "is-subclass": "a class",
    "generator": "a generator, which is gone once it was read",
    "json": "a Json, which is no text any more once it was read",
}

_TEXTS = (
    "str",
    "bytes",
    "decimal",
    "uuid",
    "date",
    "time",
    "datetime",
    "timedelta",
    "url",
    "opaque",
)
"""Schemas whose values are text in JSON; "opaque" are addresses and paths."""

_ARRAYS = ("list", "tuple", "set", "frozenset")

_SCALARS = (str, bytes, int, float, Decimal, UUID)

_NO_KEYS = ("nullable", "none", *_ARRAYS, "model", "dataclass")

_EXCLUDED = "is excluded from JSON, so it would be lost"

_OPAQUE = "lax-or-strict"
"""The schema that pydantic makes for addresses and paths, with a text for each value."""

_TOLD_APART = ({"str"}, {"uuid", "date", "datetime"})
"""Texts that are told apart by their form, or are equal where they are not."""


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
    if not model.model_config.get("frozen"):
        found.append(f"{name} is not frozen: what others hold too could be changed")
    if model.model_config.get("extra") == "allow":
        found.append(f"{name} allows fields that it does not declare: they would be lost")
    if by_alias := _field_by_alias(model):
        found.append(
            f"{name}.{by_alias} is read by its alias alone, and stored by its name: leave"
            " validate_by_name=False out of its model_config"
        )
    for field, info in model.model_fields.items():
        if info.exclude:
            found.append(f"{name}.{field} {_EXCLUDED}")
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
        elif each.get("serialization_exclude") and each is not node:
            yield f"holds a field that {_EXCLUDED}"
        elif _is_masked(each) and "serialization" not in node.get("schema", ()):
            yield "is a secret, of which JSON has asterisks: use str, and show it in no view"
        elif kind == "model" and (field := _field_by_alias(each["cls"])):
            yield (
                f"holds {each['cls'].__qualname__}, whose {field!r} is read by an alias and"
                " written by its name: say validate_by_name=True in its model_config"
            )
        elif kind in ("model", "dataclass") and writes_in_any_order(each):
            yield (
                f"holds {each['cls'].__qualname__}, whose sets would be written in any order, as it"
                " is no rayfold.Message: derive it from that"
            )
        elif kind == "dict" and not _are_keys(each.get("keys_schema"), definitions):
            yield "has keys that are not text: JSON would make text of them for good"
        elif kind == "union" and _look_alike(each["choices"], definitions):
            yield "is a union whose members look alike in JSON: keep one, or wrap them in models"


def mistakes_of_state(owner: str, model: type) -> list[str]:
    """Return a sentence for each thing that is wrong with a state; `owner` is whose it is."""
    # Messages, and nothing else, are both.
    if not (issubclass(model, BaseModel) and issubclass(model, SetsInOrder)):
        told = f"{owner} has a {model.__qualname__} as its state, which is no rayfold.Message"
        return [f"{told}: derive it from that"]
    return mistakes_of_fields(model) or mistakes_of_defaults(model)


def mistakes_of_defaults(model: type[BaseModel]) -> list[str]:
    """Return a sentence for all that is another wherever the log is folded: defaults, and more."""
    schema = model.__pydantic_core_schema__
    models = dict.fromkeys([model, *(each["cls"] for each in _all_nodes(model, "model"))])
    return [
        f"{each.__qualname__}.{attribute} is private, so it is lost wherever the"
        f" {model.__qualname__} is written: make it a field, or a cached_property of its fields"
        for each in models
        for attribute in each.__private_attributes__
    ] + [
        f"{model.__qualname__}.{field} has a default that is another each time: take it from what"
        " happened, as it is folded in many places"
        for field, node in _fields_of(schema)
        if any(_is_random(each) for each in _nodes(node, _definitions_of(schema), set()))
    ]


def _is_random(node: dict[str, Any]) -> bool:
    make = node.get("default_factory")
    if make is None or node.get("default_factory_takes_data"):
        return False
    value = make()
    # A clock may say the same twice.
    return isinstance(value, date | time) or (isinstance(value, _SCALARS) and make() != value)


def has_functions(model: type[BaseModel]) -> bool:
    """Return whether functions of an author's make values of what is read: validators, say."""
    return any(
        "post_init" in each or (each["type"].startswith("function") and _is_called(each))
        for each in _all_nodes(model)
    )


def has_serializers(model: type[BaseModel]) -> bool:
    """Return whether functions of an author's write values."""
    return any(_is_called(each.get("serialization", {})) for each in _all_nodes(model))


def kinds_of(model: type[BaseModel]) -> frozenset[str]:
    """Return what pydantic calls the types of all that stands anywhere in the model."""
    return frozenset(each["type"] for each in _all_nodes(model))


def _all_nodes(model: type[BaseModel], kind: str = "") -> Iterator[dict[str, Any]]:
    schema = model.__pydantic_core_schema__
    found = _nodes(schema, _definitions_of(schema), set())
    return (each for each in found if kind in ("", each["type"]))


def _is_called(node: dict[str, Any]) -> bool:
    """Whether a function is called, and not a class that values are made of."""
    function = node.get("function")
    if isinstance(function, dict):
        function = function.get("function")
    return function not in (None, ordered) and not isinstance(function, type)


def _field_by_alias(model: type[BaseModel]) -> str | None:
    config = model.model_config
    if config.get("validate_by_name") or config.get("populate_by_name"):
        return None
    return next((name for name, info in model.model_fields.items() if info.validation_alias), None)


def _are_keys(node: Any, definitions: dict[str, Any]) -> bool:
    """Whether the texts that JSON makes of such keys are read as what they were."""
    if isinstance(node, dict) and node.get("type") == "definition-ref":
        node = definitions.get(node["schema_ref"])
    kind = node.get("type") if isinstance(node, dict) else None
    return kind not in _NO_KEYS and _form_of(node, definitions) != "mixed"


def _is_masked(node: dict[str, Any]) -> bool:
    """Whether it is one of pydantic's secrets, without a serializer of the author's."""
    inner = node.get("lax_schema", node)
    write = inner.get("serialization", {}).get("function")
    return getattr(write, "__module__", "") == SecretStr.__module__


def _look_alike(choices: list[Any], definitions: dict[str, Any]) -> bool:
    """Whether JSON of one member could be read as another's: a date that is a text, say."""
    forms = [
        _form_of(each[0] if isinstance(each, tuple) else each, definitions) for each in choices
    ]
    texts = {form for form in forms if form in _TEXTS}
    if "mixed" in forms and any(form in (*_TEXTS, "number", "int-enum") for form in forms):
        return True
    if "int-enum" in forms and texts - {"str"}:
        return True
    if len({form for form in forms if form in _ARRAYS}) > 1:
        return True
    return len([form for form in forms if form in _TEXTS]) > 1 and not any(
        texts <= apart for apart in _TOLD_APART
    )


def _form_of(node: Any, definitions: dict[str, Any]) -> str:
    """Return what a value is in JSON: one of `_TEXTS` or `_ARRAYS`, "number", "mixed"."""
    while isinstance(node, dict):
        kind = str(node.get("type"))
        if kind == "definition-ref":
            node = definitions.get(node["schema_ref"])
        elif kind == "literal":
            return _form_of_values(node["expected"])
        elif kind == "enum":
            return {"str": "str", "int": "int-enum"}.get(str(node.get("sub_type")), "mixed")
        elif kind in ("int", "float"):
            return "number"
        elif kind in _TEXTS or kind in _ARRAYS:
            return kind
        elif kind == _OPAQUE:
            return "opaque"
        else:
            node = node.get("schema", node.get("json_schema"))
    return ""


def _form_of_values(values: list[Any]) -> str:
    kinds = {type(getattr(each, "value", each)) for each in values} - {type(None)}
    if kinds <= {str} and not any(isinstance(each, Enum) for each in values):
        return "str"
    return "number" if kinds <= {int} else "mixed"


def _nodes(node: Any, definitions: dict[str, Any], seen: set[str]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list | tuple):
        for each in node:
            yield from _nodes(each, definitions, seen)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind == _OPAQUE:
        yield node
        return
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
    definitions = _definitions_of(schema)
    while schema.get("type") != "model-fields":
        if schema.get("type") == "definition-ref":  # a model that holds some of its own
            schema = definitions[schema["schema_ref"]]
        elif "schema" in schema:
            schema = schema["schema"]
        else:
            return []
    return list(schema["fields"].items())


def _definitions_of(schema: Any) -> dict[str, Any]:
    return {each["ref"]: each for each in schema.get("definitions", ())}
