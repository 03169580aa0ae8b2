"""Sample events that a schema of the lock file allows: the smallest, and one with every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.authoring.catalogue.compatibility import ALIASES, LIMITS, NAME, PERSONAL, Schema
from rayfold import FORGOTTEN

_TEXTS = {
    "uuid": "00000000-0000-4000-8000-000000000005",
    "uuid4": "00000000-0000-4000-8000-000000000005",
    "date": "2020-01-31",
    "date-time": "2020-01-31T12:30:00Z",
    "time": "12:30:00",
    "duration": "P1DT5S",
    "decimal": "4.50",
    "uri": "https://example.org/",
    "base64url": "YWJj",
}
"""By format: a value that all types of that format read."""

_BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))

_DEEPEST = 8

_LONGEST = 10_000
"""The most characters of a text, or items of a list."""


class Unknown(Exception):
    """No value is certain to be valid for the schema."""


def samples(schema: Schema) -> Iterator[Any]:
    """Yield at most two values; none if they would be guesses."""
    for whole in (False, True):
        try:
            yield _value(schema, schema.get("$defs", {}), whole, 0)
        except Unknown:
            continue


def what_is_left(schema: Schema, sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as it is read once all persons in it are forgotten."""
    fields = schema.get("properties", {})
    return {
        name: _stand_in(fields[name]) if fields[name].get(PERSONAL) else value
        for name, value in sample.items()
    }


def _stand_in(schema: Schema) -> str | None:
    types = {each.get("type") for each in (schema, *schema.get("anyOf", ()))}
    return None if "null" in types else FORGOTTEN


def _value(schema: Schema, definitions: dict[str, Schema], whole: bool, depth: int) -> Any:
    if depth > _DEEPEST:  # a recursive model
        raise Unknown
    if "$ref" in schema:
        return _value(definitions[schema["$ref"].rpartition("/")[2]], definitions, whole, depth + 1)
    for members in (schema.get("anyOf"), schema.get("oneOf")):
        if members:
            return _value(members[-1] if not whole else members[0], definitions, whole, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "string":
            return _text(schema)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return _list(schema, definitions, whole, depth)
        case "object" if "properties" in schema:
            return _model(schema, definitions, whole, depth)
        case "object" if not schema.get("minProperties"):
            return {}
    raise Unknown


def _model(schema: Schema, definitions: dict[str, Schema], whole: bool, depth: int) -> Any:
    required, found = schema.get("required", ()), {}
    for name, each in schema["properties"].items():
        if whole or name in required:
            try:
                found[name] = _value(each, definitions, whole, depth + 1)
            except Unknown:
                if name in required:
                    raise
    return found


def _list(schema: Schema, definitions: dict[str, Schema], whole: bool, depth: int) -> Any:
    places = schema.get("prefixItems", [])
    found = [_value(each, definitions, whole, depth + 1) for each in places]
    least = schema.get("minItems", 0)
    if least > _LONGEST:
        raise Unknown
    wanted = max(least, 1) if whole and schema.get("maxItems", 1) else least
    if len(found) < wanted and (wanted == 1 or not schema.get("uniqueItems")):
        items = schema.get("items", True)
        try:
            item = _value({} if isinstance(items, bool) else items, definitions, whole, depth + 1)
        except Unknown:
            if least > len(found):
                raise
        else:
            found += [item] * (wanted - len(found))
    if len(found) < least:
        raise Unknown
    return found


def _text(schema: Schema) -> str:
    if "pattern" in schema or _is_limited(schema) or schema.get("minLength", 0) > _LONGEST:
        raise Unknown
    if "format" in schema:
        if schema["format"] not in _TEXTS:
            raise Unknown
        return _TEXTS[schema["format"]]
    text = "text"[: schema.get("maxLength", 4)]
    return text.ljust(schema.get("minLength", 0), "t")


def _number(schema: Schema) -> int:
    if "multipleOf" in schema or _is_limited(schema):
        raise Unknown
    for value in (
        5,
        schema.get("minimum"),
        schema.get("maximum"),
        schema.get("exclusiveMinimum", 0) + 1,
        schema.get("exclusiveMaximum", 0) - 1,
    ):
        if value is not None and value == int(value) and _is_within(value, schema):
            return int(value)
    raise Unknown


def _is_limited(schema: Schema) -> bool:
    """Return whether it has keywords of ours, which are only for comparison."""
    return any(word.startswith("x-") for word in schema.keys() - {ALIASES, NAME, PERSONAL})


def _is_within(value: float, schema: Schema) -> bool:
    only: Schema = {"minimum": value, "maximum": value}
    return all(within(only, schema) for words, within in LIMITS.items() if words in _BOUNDS)
