"""Finds defaults that do not fit their field, or differ each time."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import (
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    Some,
    core_schema,
)

from rayfold.core_schemas import (
    all_nodes,
    config_of,
    definitions_of,
    fields_of,
    fields_within,
    has_functions,
    has_serializers,
    models_in,
    nodes_within,
)

_SCALARS = (str, bytes, int, float, Decimal, UUID)


def mistaken_defaults(model: type[BaseModel], *, is_sent: bool = False) -> list[str]:
    """Return a sentence for each default, at any depth, that does not have its field's type.

    `is_sent`: the model is a command, whose defaults are sent to its writer as they are. So they
    must be readable there and equal what `CommandDefinition.encode` compares. In other models, a
    default may be there to be replaced, or for old events only.
    """
    found = []
    is_compared = has_functions(model) or has_serializers(model)
    for each in models_in(model):
        if each.__pydantic_root_model__ or each.model_rebuild(raise_errors=False) is False:
            continue
        schema, is_read = each.__pydantic_core_schema__, is_sent and each is model
        for field, node in fields_of(schema):
            info = each.model_fields.get(field)
            if info is None or info.exclude or info.is_required():
                continue
            if info.default_factory_takes_validated_data:
                continue
            given = definitions_of(schema), config_of(schema)
            if why := _mistaken_default(node, *given, is_read, is_read and is_compared):
                found.append(f"{each.__qualname__}.{field} has a default that {why}")
    return found


def _mistaken_default(
    node: Any, definitions: dict[str, Any], config: Any, is_read: bool, is_compared: bool
) -> str | None:
    nodes = list(nodes_within(node, definitions))
    if any(map(_needs_its_model, nodes)):
        return None  # the function takes more than the value
    alone = core_schema.definitions_schema(node["schema"], list(definitions.values()))
    reader, writer = SchemaValidator(alone, config), SchemaSerializer(alone, config)
    try:
        value = cast("Some[Any]", reader.get_default_value()).value
        data = writer.to_json(value, warnings=False)
        # With a plain validator pydantic always warns: it does not know the type to write.
        is_plain = any(each["type"] == "function-plain" for each in nodes)
        is_odd = not is_plain and _warns(writer, value)
        if not (is_read or is_odd or value is None):  # every serializer accepts None
            return None
        back = reader.validate_json(data, extra="ignore")
        if is_odd and not (back == value and writer.to_json(back, warnings=False) == data):
            return f"it does not take: a {type(value).__name__}"
        if is_compared and back != value:
            return f"does not come back from JSON as it is{became(value, back)}"
    except PydanticSerializationError:
        return f"it does not take: a {type(value).__name__}"
    except ValidationError as error:
        return f"it does not take: {error.errors(include_url=False)[0]['msg']}"
    except Exception:  # from an author's function, which may fail only here
        return None
    return None


def _warns(writer: SchemaSerializer, value: Any) -> bool:
    try:
        writer.to_json(value, warnings="error")
    except PydanticSerializationError:
        return True
    return False


def _needs_its_model(node: dict[str, Any]) -> bool:
    """Return whether an author's function that takes the other fields too handles the value."""
    write, read = node.get("serialization", {}), node.get("function")
    told = isinstance(read, dict) and read["type"] == "with-info"
    return told or bool(write.get("is_field_serializer"))


def mistakes_of_defaults(model: type[BaseModel]) -> list[str]:
    """Return a sentence for each private attribute and each default that differs every time.

    With either, folding the same log could give different states.
    """
    schema = model.__pydantic_core_schema__
    return [
        f"{each.__qualname__}.{attribute} is private, so it is lost wherever the"
        f" {model.__qualname__} is written: make it a field, or a cached_property of its fields"
        for each in models_in(model)
        for attribute in each.__private_attributes__
    ] + [
        f"{model.__qualname__}.{field} has a default that differs each time: take it from the"
        " event, as it is folded in many places"
        for field, node in fields_of(schema)
        if any(_is_random(each) for each in nodes_within(node, definitions_of(schema)))
    ]


def _is_random(node: dict[str, Any]) -> bool:
    make = node.get("default_factory")
    if make is None or node.get("default_factory_takes_data"):
        return False
    try:
        value = make()
        # Dates and times always count: a clock may return the same value twice.
        return isinstance(value, date | time) or (isinstance(value, _SCALARS) and make() != value)
    except Exception:  # something that it needs may not exist yet
        return False


def has_untried_defaults(model: type[BaseModel]) -> bool:
    """Return whether a command may have a default that its writer cannot read.

    A default from a function may differ each time, and defaults in nested models are often there
    to be replaced, so `mistaken_defaults` has not tried these.
    """
    definitions = definitions_of(model.__pydantic_core_schema__)
    read = {
        id(node["schema"])
        for each in all_nodes(model, "model")
        for _, node in fields_within(each, definitions)
        if _is_default(node["schema"])
        and not _mistaken_default(node, definitions, each.get("config"), True, False)
    }
    return any(id(each) not in read for each in all_nodes(model, "default"))


def _is_default(node: dict[str, Any]) -> bool:
    """Return whether the field has a default that is, in effect, the same each time."""
    return node["type"] == "default" and isinstance(node.get("default_factory", object), type)


def became(value: Any, back: Any) -> str:
    """Return how a value differs from the one read back, if their classes differ."""
    kinds = [type(each).__name__ for each in (value, back)]
    return "" if kinds[0] == kinds[1] else f": a {kinds[0]} became a {kinds[1]}"
