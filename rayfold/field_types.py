"""Finds field types whose values would not be read back as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from pydantic import BaseModel, PydanticUserError, SecretStr, ValidationError
from pydantic_core import (
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    core_schema,
)

from rayfold.core_schemas import (
    OPAQUE,
    around_fields,
    definitions_of,
    fields_of,
    fields_within,
    is_authors,
    nodes_within,
)
from rayfold.field_defaults import mistaken_defaults, mistakes_of_defaults
from rayfold.ordered_sets import SetsInOrder, writes_in_any_order

_UNWRITABLE = {
    "callable": "a callable",
    "is-subclass": "a class",
    "generator": "a generator, which is empty once it has been read",
    "json": "a Json, which is no longer text once it has been read",
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
"""Schemas whose values are text in JSON; "opaque" stands for IP addresses and paths."""

_ARRAYS = ("list", "tuple", "set", "frozenset")

_NO_KEYS = ("nullable", "none", *_ARRAYS, "named-tuple", "model", "dataclass")

_KNOWN = ("enum", "literal")
"""Schemas that list all their values, so that each can be tried."""

_CONFIGURED = {
    "model": "its model_config",
    "dataclass": "the config of its decorator",
    "typed-dict": "its __pydantic_config__",
}
"""Schemas with fields and a configuration, each with the place where its author writes it."""

_EXCLUDED = "is excluded from JSON, so it would be lost"

_TOLD_APART = ({"str"}, {"uuid", "date", "datetime"})
"""Kinds of text that are distinct in their form, or else are equal values."""

_KEYS_TOLD_APART = ({"number", "uuid"}, {"uuid", "date", "datetime"})
"""The same for keys, all of which are text."""


def mistakes_of_fields(
    model: type[BaseModel],
    *,
    utc_only: bool = False,
    is_sent: bool = False,
    by_alias: bool | None = False,
) -> list[str]:
    """Return a sentence for each field whose values would be lost or changed in JSON.

    `utc_only`: instants must be in UTC, not just have an offset. `is_sent`: see
    `mistaken_defaults`. `by_alias` is the pydantic argument with which such models are written.
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
    is_made = any(map(is_authors, around_fields(schema)))
    for field, node in fields_of(schema):
        given = _reasons(node, definitions_of(schema), utc_only, is_made, by_alias)
        found += [f"{name}.{field} {reason}" for reason in dict.fromkeys(given)]
    return found or mistaken_defaults(model, is_sent=is_sent)


def mistakes_of_forward_references(model: type[BaseModel]) -> list[str]:
    """Return a sentence if a model's annotations name something undefined; else complete it."""
    try:
        model.model_rebuild()
    except (PydanticUserError, NameError) as error:
        return [f"{model.__qualname__}: {str(error).splitlines()[0]}"]
    return []


def _reasons(
    node: Any, definitions: dict[str, Any], utc_only: bool, is_made: bool, by_alias: bool | None
) -> Iterator[str]:
    nodes = list(nodes_within(node, definitions))
    is_made = is_made or any(map(is_authors, nodes))  # of whatever JSON has, by an author
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
            yield "is a secret, which JSON has as asterisks: use str, and show it in no view"
        elif kind == "enum" and not is_made:
            lost = [member for member in each["members"] if not _comes_back(each, member)]
            if lost:
                yield (
                    f"may be {lost[0]}, which would be another value when read back from JSON: let"
                    " it be text or a number"
                )
        elif kind == "dict" and not _are_keys(each.get("keys_schema"), definitions):
            yield (
                "has keys that are not text: read back from JSON, they would be text. Let them be"
                " text, or all of them a number, an id, a date, or a member of an enumeration"
            )
        elif kind == "union" and _look_alike(_choices(each), definitions):
            yield "is a union whose members look alike in JSON: keep one, or wrap them in models"


def _reasons_within(
    node: dict[str, Any], definitions: dict[str, Any], by_alias: bool | None
) -> Iterator[str]:
    """Yield the mistakes in the configuration of a model, a dataclass or a TypedDict."""
    kind, config = node["type"], node.get("config", {})
    held = f"holds {node['cls'].__qualname__}"
    fields = [] if node.get("root_model") else fields_within(node, definitions)
    # pydantic ignores this setting in the config of a TypedDict.
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
            f"{held}, whose sets would be written in any order, as it is not a rayfold.Message:"
            " derive it from that"
        )


def _is_read_as_written(field: dict[str, Any]) -> bool:
    """Return whether a field is read by the alias under which it is written."""
    written, read = field.get("serialization_alias"), field["validation_alias"]
    return written == read or (isinstance(read, list) and [written] in read)


def mistakes_of_state(owner: str, model: type) -> list[str]:
    """Return the mistakes in a state's model, one sentence each; `owner` names its aggregate."""
    # Messages are both, and nothing else is.
    if not (issubclass(model, BaseModel) and issubclass(model, SetsInOrder)):
        told = f"{owner} has a {model.__qualname__} as its state, which is not a rayfold.Message"
        return [f"{told}: derive it from that"]
    return mistakes_of_fields(model) or mistakes_of_defaults(model)


def _field_by_alias(model: type[BaseModel]) -> str | None:
    config = model.model_config
    if config.get("validate_by_name") or config.get("populate_by_name"):
        return None
    return next((name for name, info in model.model_fields.items() if info.validation_alias), None)


def _are_keys(node: Any, definitions: dict[str, Any]) -> bool:
    """Return whether keys of this schema, which are text in JSON, are read back equal."""
    if any(map(is_authors, nodes_within(node, definitions))):
        return True  # unknown
    while isinstance(node, dict):
        match node["type"]:
            case "definition-ref":
                node = definitions.get(node["schema_ref"])
            case "enum" | "literal":  # the values are known: try them
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
    """Return whether the values of an enumeration or a literal are read back equal as keys."""
    keyed = core_schema.dict_schema(node)
    schema = core_schema.definitions_schema(keyed, list(definitions.values()))
    values = known["members"] if known["type"] == "enum" else known["expected"]
    return all(_comes_back(schema, {each: None}) for each in values)


def _resolved(node: Any, definitions: dict[str, Any]) -> Any:
    while node["type"] == "definition-ref":
        node = definitions[node["schema_ref"]]
    return node


def _comes_back(schema: Any, value: Any) -> bool:
    """Return whether a known value is read back equal."""
    try:
        data = SchemaSerializer(schema).to_json(value)
        return bool(SchemaValidator(schema).validate_json(data) == value)
    except (ValidationError, PydanticSerializationError):
        return False


def _is_masked(node: dict[str, Any]) -> bool:
    """Return whether it is a secret type of pydantic's without a serializer of the author's."""
    inner = node.get("lax_schema", node)
    write = inner.get("serialization", {}).get("function")
    # Functions of the same module write Base64Bytes and similar types too, hence the name test.
    is_pydantics = getattr(write, "__module__", "") == SecretStr.__module__
    return is_pydantics and "secret" in getattr(write, "__name__", "")


def _look_alike(choices: list[Any], definitions: dict[str, Any]) -> bool:
    """Return whether one union member's JSON could be read as another: a date as a str, say."""
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
    """Return the schemas of a union's members, without the label that some come with."""
    return [each[0] if isinstance(each, tuple) else each for each in union["choices"]]


def _form_of(node: Any, definitions: dict[str, Any]) -> str:
    """Return the JSON form of a schema's values: of `_TEXTS` or `_ARRAYS`, "number", "mixed"."""
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
        elif kind == OPAQUE:
            return "opaque"
        else:
            node = node.get("schema", node.get("json_schema"))
    return ""


def _form_of_values(values: list[Any]) -> str:
    kinds = {type(getattr(each, "value", each)) for each in values} - {type(None)}
    if kinds <= {str} and not any(isinstance(each, Enum) for each in values):
        return "str"
    return "number" if kinds <= {int} else "mixed"
