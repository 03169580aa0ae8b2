"""Types of fields that would not come back as they were written, found before anybody does.

They are looked for in what pydantic makes of the annotations, so that it does not matter
how deep in a union, a list or another model they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel, PydanticUserError, SecretStr, ValidationError
from pydantic_core import (
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    Some,
    core_schema,
)

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

_NO_KEYS = ("nullable", "none", *_ARRAYS, "named-tuple", "model", "dataclass")

_KNOWN = ("enum", "literal")
"""Schemas that name all their values, so that each can be tried."""

_CONFIGURED = {
    "model": "its model_config",
    "dataclass": "the config of its decorator",
    "typed-dict": "its __pydantic_config__",
}
"""Schemas that have fields and a configuration, each with where its author says it."""

_FIELDS = ("model-fields", "dataclass-args", "typed-dict")

_EXCLUDED = "is excluded from JSON, so it would be lost"

_OPAQUE = "lax-or-strict"
"""The schema that pydantic makes for addresses and paths, with a text for each value."""

_TOLD_APART = ({"str"}, {"uuid", "date", "datetime"})
"""Texts that are told apart by their form, or are equal where they are not."""

_KEYS_TOLD_APART = ({"number", "uuid"}, {"uuid", "date", "datetime"})
"""The same of keys, which are text all of them."""


def mistakes_of_fields(
    model: type[BaseModel],
    *,
    utc_only: bool = False,
    is_sent: bool = False,
    by_alias: bool | None = False,
) -> list[str]:
    """Return a sentence for each field whose values would be lost or changed on the way.

    `utc_only`: instants must be in UTC, not just have an offset. `is_sent` is of defaults: see
    `mistaken_defaults`. `by_alias`: as pydantic is told when such models are written.
    """
    name = model.__qualname__
    if found := mistakes_of_forward_references(model):
        return found
    schema = model.__pydantic_core_schema__
    if not model.model_config.get("frozen"):
        found.append(f"{name} is not frozen: what others hold too could be changed")
    if model.model_config.get("extra") == "allow":
        found.append(f"{name} allows fields that it does not declare: they would be lost")
    if aliased := _field_by_alias(model):
        found.append(
            f"{name}.{aliased} is read by its alias alone, and stored by its name: leave"
            " validate_by_name=False out of its model_config"
        )
    for field, info in model.model_fields.items():
        if info.exclude:
            found.append(f"{name}.{field} {_EXCLUDED}")
    is_made = any(map(_is_authors, _around_fields(schema)))
    for field, node in _fields_of(schema):
        given = _reasons(node, _definitions_of(schema), utc_only, is_made, by_alias)
        found += [f"{name}.{field} {reason}" for reason in dict.fromkeys(given)]
    return found or mistaken_defaults(model, is_sent=is_sent)


def mistakes_of_forward_references(model: type[BaseModel]) -> list[str]:
    """Return a sentence if a model's annotations name what is nowhere; complete it otherwise."""
    try:
        model.model_rebuild()
    except (PydanticUserError, NameError) as error:
        return [f"{model.__qualname__}: {str(error).splitlines()[0]}"]
    return []


def became(value: Any, back: Any) -> str:
    """Return how a value differs from what it was written as, where their classes tell."""
    kinds = [type(each).__name__ for each in (value, back)]
    return "" if kinds[0] == kinds[1] else f": a {kinds[0]} became a {kinds[1]}"


def holds(model: type[BaseModel], *kinds: str) -> bool:
    """Return whether a value of one of these kinds of pydantic's schema may be in the model."""
    schema = model.__pydantic_core_schema__
    definitions = _definitions_of(schema)
    return any(
        node.get("type") in kinds
        for _, field in _fields_of(schema)
        for node in _nodes(field, definitions, set())
    )


def _reasons(
    node: Any, definitions: dict[str, Any], utc_only: bool, is_made: bool, by_alias: bool | None
) -> Iterator[str]:
    nodes = list(_nodes(node, definitions, set()))
    is_made = is_made or any(map(_is_authors, nodes))  # of whatever JSON has, by an author
    for each in nodes:
        kind = each.get("type")
        if kind in _CONFIGURED:
            yield from _reasons_within(each, definitions, by_alias)
        if kind == "datetime" and (each.get("tz_constraint") != "aware" or utc_only):
            yield "is a datetime that is not one instant everywhere: use rayfold.UtcDatetime"
        elif kind in _UNWRITABLE and "serialization" not in each:
            yield f"is {_UNWRITABLE[kind]}: that cannot be written as JSON"
        elif each.get("serialization_exclude") and each is not node:
            yield f"holds a field that {_EXCLUDED}"
        elif _is_masked(each) and "serialization" not in node.get("schema", ()):
            yield "is a secret, of which JSON has asterisks: use str, and show it in no view"
        elif kind == "enum" and not is_made:
            lost = [member for member in each["members"] if not _comes_back(each, member)]
            if lost:
                yield f"may be {lost[0]}, which JSON makes another of: let it be a text or a number"
        elif kind == "dict" and not _are_keys(each.get("keys_schema"), definitions):
            yield (
                "has keys that are not text: JSON would make text of them for good. Let them be"
                " text, or all of them a number, an id, a date, or a member of an enumeration"
            )
        elif kind == "union" and _look_alike(_choices(each), definitions):
            yield "is a union whose members look alike in JSON: keep one, or wrap them in models"


def _reasons_within(
    node: dict[str, Any], definitions: dict[str, Any], by_alias: bool | None
) -> Iterator[str]:
    """Yield what is wrong with how a model, a dataclass or a TypedDict is configured."""
    kind, config = node["type"], node.get("config", {})
    held = f"holds {node['cls'].__qualname__}"
    fields = [] if node.get("root_model") else fields_within(node, definitions)
    # To a TypedDict pydantic does not do what its config says of that.
    as_it_says = by_alias is None and kind != "typed-dict" and config.get("serialize_by_alias")
    lost = [
        name
        for name, each in fields
        if "validation_alias" in each and not (as_it_says and _is_read_as_written(each))
    ]
    if lost and not config.get("validate_by_name"):
        yield (
            f"{held}, whose {lost[0]!r} is read by an alias and written by its name: say"
            f" validate_by_name=True in {_CONFIGURED[kind]}"
        )
    if config.get("extra_fields_behavior") == "allow":
        yield f"{held}, which allows fields that it does not declare: they would be lost"
    if kind != "typed-dict" and writes_in_any_order(node):
        yield (
            f"{held}, whose sets would be written in any order, as it is no rayfold.Message:"
            " derive it from that"
        )


def _is_read_as_written(field: dict[str, Any]) -> bool:
    """Whether a field is read by the alias under which it is written."""
    written, read = field.get("serialization_alias"), field["validation_alias"]
    return written == read or (isinstance(read, list) and [written] in read)


def mistaken_defaults(model: type[BaseModel], *, is_sent: bool = False) -> list[str]:
    """Return a sentence for each default that is of another type than its field, at any depth.

    `is_sent`: as a command's, which is written for its writer as it is. So it has to be read there,
    and to be the same where `CommandDefinition.encode` compares; others may be there to be
    replaced, or for old events alone.
    """
    found = []
    is_compared = has_functions(model) or has_serializers(model)
    for each in models_in(model):
        if each.__pydantic_root_model__ or each.model_rebuild(raise_errors=False) is False:
            continue
        schema, is_read = each.__pydantic_core_schema__, is_sent and each is model
        for field, node in _fields_of(schema):
            info = each.model_fields.get(field)
            if info is None or info.is_required() or info.default_factory_takes_validated_data:
                continue
            if why := _mistaken_default(schema, node, is_read, is_read and is_compared):
                found.append(f"{each.__qualname__}.{field} has a default that {why}")
    return found


def _mistaken_default(schema: Any, node: Any, is_read: bool, is_compared: bool) -> str | None:
    definitions = _definitions_of(schema)
    nodes = list(_nodes(node, definitions, set()))
    if any(map(_needs_its_model, nodes)):
        return None  # it is told more than the value
    alone = core_schema.definitions_schema(node["schema"], list(definitions.values()))
    config = _config_of(schema)
    reader, writer = SchemaValidator(alone, config), SchemaSerializer(alone, config)
    try:
        value = cast("Some[Any]", reader.get_default_value()).value
        data = writer.to_json(value, warnings=False)
        # Of a plain validator pydantic warns by itself: it writes as if there were none.
        is_plain = any(each["type"] == "function-plain" for each in nodes)
        is_odd = not is_plain and _warns(writer, value)
        if not (is_read or is_odd or value is None):  # which any serializer lets pass
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
    except Exception:  # of an author's function, which may do so here alone
        return None
    return None


def _warns(writer: SchemaSerializer, value: Any) -> bool:
    try:
        writer.to_json(value, warnings="error")
    except PydanticSerializationError:
        return True
    return False


def _needs_its_model(node: dict[str, Any]) -> bool:
    """Whether an author's function reads or writes the value, and is told of the fields beside."""
    write, read = node.get("serialization", {}), node.get("function")
    told = isinstance(read, dict) and read["type"] == "with-info"
    return told or bool(write.get("is_field_serializer"))


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
    return [
        f"{each.__qualname__}.{attribute} is private, so it is lost wherever the"
        f" {model.__qualname__} is written: make it a field, or a cached_property of its fields"
        for each in models_in(model)
        for attribute in each.__private_attributes__
    ] + [
        f"{model.__qualname__}.{field} has a default that is another each time: take it from what"
        " happened, as it is folded in many places"
        for field, node in _fields_of(schema)
        if any(_is_random(each) for each in _nodes(node, _definitions_of(schema), set()))
    ]


def models_in(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the model, and those that it holds."""
    return list(dict.fromkeys([model, *(each["cls"] for each in _all_nodes(model, "model"))]))


def _is_random(node: dict[str, Any]) -> bool:
    make = node.get("default_factory")
    if make is None or node.get("default_factory_takes_data"):
        return False
    try:
        value = make()
        # A clock may say the same twice.
        return isinstance(value, date | time) or (isinstance(value, _SCALARS) and make() != value)
    except Exception:  # as something is not there yet, say
        return False


def has_functions(model: type[BaseModel]) -> bool:
    """Return whether functions of an author's make values of what is read: validators, say."""
    return any("post_init" in each or _is_validator(each) for each in _all_nodes(model))


def has_serializers(model: type[BaseModel]) -> bool:
    """Return whether functions of an author's write values."""
    return any(_is_called(each.get("serialization", {})) for each in _all_nodes(model))


def has_untried_defaults(model: type[BaseModel]) -> bool:
    """Return whether there are defaults that `mistaken_defaults` does not read, of a command."""
    tried = [id(node["schema"]) for _, node in _fields_of(model.__pydantic_core_schema__)]
    return any(
        id(each) not in tried or not isinstance(each.get("default_factory", object), type)
        for each in _all_nodes(model, "default")
    )


def kinds_of(model: type[BaseModel]) -> frozenset[str]:
    """Return what pydantic calls the types of all that stands anywhere in the model."""
    return frozenset(each["type"] for each in _all_nodes(model))


def _all_nodes(model: type[BaseModel], kind: str = "") -> Iterator[dict[str, Any]]:
    schema = model.__pydantic_core_schema__
    found = _nodes(schema, _definitions_of(schema), set())
    return (each for each in found if kind in ("", each["type"]))


def _is_authors(node: dict[str, Any]) -> bool:
    """Whether a function of an author's reads or writes there."""
    return _is_validator(node) or _is_called(node.get("serialization", {}))


def _is_validator(node: dict[str, Any]) -> bool:
    return node["type"].startswith("function") and _is_called(node)


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
    if any(map(_is_authors, _nodes(node, definitions, set()))):
        return True  # nobody knows
    while isinstance(node, dict):
        match node["type"]:
            case "definition-ref":
                node = definitions.get(node["schema_ref"])
            case "enum" | "literal":  # whose values are known: try them
                return _keys_come_back(node, node, definitions)
            case "union":
                choices = [_resolved(each, definitions) for each in _choices(node)]
                known = [each for each in choices if each["type"] in _KNOWN]
                others = [each for each in choices if each not in known]
                forms = {_form_of(each, definitions) for each in others}
                if any(each["type"] in _NO_KEYS for each in others):
                    return False
                return all(_keys_come_back(each, node, definitions) for each in known) and (
                    len(forms) < 2 or any(forms <= apart for apart in _KEYS_TOLD_APART)
                )
            case kind if kind in _NO_KEYS:
                return False
            case _:
                node = node.get("schema", node.get("json_schema"))
    return True


def _keys_come_back(known: Any, node: Any, definitions: dict[str, Any]) -> bool:
    """Whether the values of an enumeration or a literal come back as keys of a schema."""
    keyed = core_schema.dict_schema(node)
    schema = core_schema.definitions_schema(keyed, list(definitions.values()))
    values = known["members"] if known["type"] == "enum" else known["expected"]
    return all(_comes_back(schema, {each: None}) for each in values)


def _resolved(node: Any, definitions: dict[str, Any]) -> Any:
    while node["type"] == "definition-ref":
        node = definitions[node["schema_ref"]]
    return node


def _comes_back(schema: Any, value: Any) -> bool:
    """Whether a value of which all is known is read as what was written."""
    try:
        data = SchemaSerializer(schema).to_json(value)
        return bool(SchemaValidator(schema).validate_json(data) == value)
    except (ValidationError, PydanticSerializationError):
        return False


def _is_masked(node: dict[str, Any]) -> bool:
    """Whether it is one of pydantic's secrets, without a serializer of the author's."""
    inner = node.get("lax_schema", node)
    write = inner.get("serialization", {}).get("function")
    # Base64Bytes and the like are written by functions of that module too.
    is_pydantics = getattr(write, "__module__", "") == SecretStr.__module__
    return is_pydantics and "secret" in getattr(write, "__name__", "")


def _look_alike(choices: list[Any], definitions: dict[str, Any]) -> bool:
    """Whether JSON of one member could be read as another's: a date that is a text, say."""
    forms = [_form_of(each, definitions) for each in choices]
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


def _choices(union: dict[str, Any]) -> list[Any]:
    """Return the schemas of a union's members, some of which come with a label."""
    return [each[0] if isinstance(each, tuple) else each for each in union["choices"]]


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
    return fields_within(schema, _definitions_of(schema))


def fields_within(node: Any, definitions: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields of a model, a dataclass or a TypedDict, each with its schema."""
    while node.get("type") not in _FIELDS:
        if node.get("type") == "definition-ref":  # a model that holds some of its own
            node = definitions[node["schema_ref"]]
        elif "schema" in node:
            node = node["schema"]
        else:
            return []
    fields = node["fields"]
    return list(
        fields.items() if isinstance(fields, dict) else ((each["name"], each) for each in fields)
    )


def _around_fields(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas between a model's own and those of its fields."""
    definitions = _definitions_of(schema)
    while schema.get("type") not in _FIELDS:
        yield schema
        ref = schema.get("schema_ref")
        schema = definitions[ref] if ref else schema.get("schema", {"type": "model-fields"})


def _config_of(node: Any) -> Any:
    """Return how the model of a schema is configured."""
    definitions = _definitions_of(node)
    while node.get("type") != "model":
        node = definitions[node["schema_ref"]] if "schema_ref" in node else node["schema"]
    return node.get("config", {})


def _definitions_of(schema: Any) -> dict[str, Any]:
    return {each["ref"]: each for each in schema.get("definitions", ())}
