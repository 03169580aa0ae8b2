"""Compares two JSON schemas: a fault for each place where the new one fails on old values.

The schemas are those that pydantic generates for Rayfold's events, and the reader is pydantic,
which ignores unknown fields. The rules for keywords of JSON Schema are in the tables `LIMITS` and
`_STEPS`; any other keyword must be unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

ALIASES = "x-aliases"
"""On a field: other names under which it is read."""

NAME = "x-name"
"""On a field that is written under an alias: its own name, by which it is read too."""

PERSONAL = "x-personal"
"""On a field: it is encrypted on the log. Old events are read in either form, and stay as they
are.
"""

NO_DEFAULT = "and the code has no default"
UNREAD = "which no field reads any more"

NONE, SOMETIMES_NONE = "no value", "no value in some cases"

IN_CLEAR, ENCRYPTED = "it unencrypted", "it encrypted"
"""The content of old events in a field that is, or was, personal data: an upcaster sees its
value.
"""

_MARKS = frozenset(("title", "description", "examples", "deprecated", "readOnly", "writeOnly"))
"""Keywords that do not matter to the reader."""


@dataclass(frozen=True)
class Fault:
    """Old events have a value at `path` that cannot be read, or is read with another meaning."""

    path: tuple[str, ...]
    old: str
    """The content of old events."""
    new: str
    """What the code does with it."""
    been: str = ""
    """The Python value that a missing field was read as: its old default."""

    @property
    def field(self) -> str:
        """The field of the event that has the fault."""
        return self.path[0] if self.path else ""

    def __str__(self) -> str:
        where = ".".join(self.path).replace(".[", "[") or "the whole event"
        return f"{where}: old events have {self.old}, {self.new}"


def faults(old: Schema, new: Schema, *, lost: bool = True) -> list[Fault]:
    """Return the values of the old schema that the new one cannot read unchanged.

    Without `lost`, only values that cannot be read, not those that are ignored.
    """
    found = _Comparison(old, new, lost).compare(old, new, ())
    return list(dict.fromkeys(found))


def bare(schema: Any) -> Any:
    """Return the schema without keywords that do not matter to the reader."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    is_model = "properties" in schema
    kept: Schema = {}
    for word, value in schema.items():
        if word in _MARKS or (is_model and word == "additionalProperties"):
            continue  # unknown fields are ignored, whatever the model's config says
        if word in ("properties", "$defs", "patternProperties"):
            kept[word] = {name: bare(each) for name, each in value.items()}
        elif word == "discriminator":
            kept[word] = {"propertyName": value["propertyName"]}
        elif word in ("const", "enum", "default"):
            kept[word] = value
        else:
            kept[word] = bare(value)
    if "required" in kept:
        kept["required"] = sorted(kept["required"])
    return kept


def is_personal(schema: Schema) -> bool:
    """Return whether an event of that schema has encrypted fields."""
    return any(field.get(PERSONAL) for field in schema.get("properties", {}).values())


def _kept_otherwise(old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault if a field becomes personal data, or ceases to be.

    It is read as before, but its meaning for the author changes: that must be declared once, by a
    new version.
    """
    if new.get(PERSONAL) and not old.get(PERSONAL):
        yield Fault(path, IN_CLEAR, "and stay unencrypted: `rayfold forget` does not reach them")
    elif old.get(PERSONAL) and not new.get(PERSONAL):
        yield Fault(path, ENCRYPTED, "and new ones would have it unencrypted")


def _told_otherwise(old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault if old events that lack a field would get another value for it.

    They are read in many places and at many times: rows folded earlier, snapshots and later
    histories would disagree on what has happened.
    """
    if "default" in old and "default" in new and not _says(new["default"], old["default"]):
        been, becomes = (json.dumps(each["default"], ensure_ascii=False) for each in (old, new))
        had = f"{SOMETIMES_NONE}, which was read as {been}"
        yield Fault(path, had, f"and would now be read as {becomes}", repr(old["default"]))


def _says(new: Any, old: Any) -> bool:
    """Return whether two defaults are equal, apart from new fields of models."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _says(new[name], each) for name, each in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_says, new, old))
    return bool(new == old)


class _Comparison:
    def __init__(self, old: Schema, new: Schema, lost: bool) -> None:
        self._old, self._new, self._lost = old.get("$defs", {}), new.get("$defs", {}), lost
        self._assumed: set[tuple[str, str]] = set()

    def compare(self, old: Schema, new: Schema, path: tuple[str, ...]) -> list[Fault]:
        """Return the faults below one place; recursive models are compared once."""
        pair = (json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True))
        if pair in self._assumed:
            return []
        before = set(self._assumed)
        self._assumed.add(pair)
        found = self._compared(_resolved(old, self._old), _resolved(new, self._new), path)
        if found:
            self._assumed = before  # with what was accepted under this assumption
        return found

    def _compared(self, old: Schema, new: Schema, path: tuple[str, ...]) -> list[Fault]:
        if members := _members(old):
            members = [_tagged(old, _resolved(each, self._old)) for each in members]
            return [fault for each in members for fault in self.compare(each, new, path)]
        if "enum" in old:
            refused = [v for v in old["enum"] if self._compared({"const": v}, new, path)]
            return [Fault(path, _listed(refused), "which the code refuses")] if refused else []
        if members := _members(new):
            return _untagged(old, new, path) or self._of_any(old, members, path)
        if "const" in old:
            return self._constant(old["const"], new, path)
        if "const" in new or "enum" in new:
            if old.get("type") in _ALL_OF:
                return self._compared({"enum": _ALL_OF[old["type"]]}, new, path)
            allowed = new.get("enum", [new.get("const")])
            return [
                Fault(path, told(old, self._old), f"and the code accepts only {_listed(allowed)}")
            ]
        if not _fits(old.get("type"), new.get("type")):
            return [_retyped(path, told(old, self._old), told(new, self._new))]
        return [fault for step in _STEPS for fault in step(self, old, new, path)]

    def _of_any(self, old: Schema, members: list[Schema], path: tuple[str, ...]) -> list[Fault]:
        """Return the faults with the closest member of a union, none if one fits."""
        tried = [self.compare(old, each, path) for each in members]
        best = min(tried, key=len)
        if not best:
            return []
        same = [
            faults
            for faults, each in zip(tried, members, strict=True)
            if _resolved(each, self._new).get("type") == old.get("type")
        ]
        if len(same) == 1:
            return same[0]
        wanted = " or ".join(dict.fromkeys(told(each, self._new) for each in members))
        return [_retyped(path, told(old, self._old), wanted)]

    def _constant(self, value: Any, new: Schema, path: tuple[str, ...]) -> list[Fault]:
        """Return a fault if one value cannot be read; formats are not guessed."""
        if "const" in new or "enum" in new:
            taken = any(_same(value, each) for each in new.get("enum", [new.get("const")]))
        else:
            taken = _takes(value, new)
        return [] if taken else [Fault(path, json.dumps(value), "which the code refuses")]

    def limits(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield the faults found by the table of limits."""
        for words, is_within in LIMITS.items():
            if not is_within(old, new):
                yield Fault(path, _words(old, words), f"the code wants {_words(new, words)}")

    def fields(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield the faults between two models."""
        if "properties" not in new or "properties" not in old:
            if "properties" in new and old.get("type") == "object":
                yield _retyped(path, told(old, self._old), "a model")
            return
        had, wanted = old["properties"], new["properties"]
        always, readers = set(old.get("required", ())), _readers(wanted)
        for name, field in wanted.items():
            owners = {
                owner: all(readers.get(each) == name for each in _names(owner, before))
                for owner, before in had.items()
                if any(readers.get(each) == name for each in _names(owner, before))
            }
            for owner in owners:
                yield from self.compare(had[owner], field, (*path, name))
                if self._lost:
                    yield from _told_otherwise(had[owner], field, (*path, name))
                yield from _kept_otherwise(had[owner], field, (*path, name))
            is_there = any(whole and owner in always for owner, whole in owners.items())
            if name in new.get("required", ()) and not is_there:
                yield Fault((*path, name), SOMETIMES_NONE if owners else NONE, NO_DEFAULT)
        for name, field in had.items():
            lost = [each for each in _names(name, field) if each not in readers]
            if lost and self._lost:
                old_has = told(field, self._old) + (
                    f" as {_listed(lost)}" if name not in lost else ""
                )
                yield Fault((*path, name), old_has, UNREAD)

    def maps(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield the faults of a map's values."""
        if new.get("type") != "object" or "properties" in new:
            return
        values = new.get("additionalProperties", True)
        if values is True or old.get("type") != "object":
            return
        for name, field in old.get("properties", {}).items():
            yield from self.compare(field, values, (*path, name))
        if "properties" not in old:
            by_pattern = [*old.get("patternProperties", {}).values()]
            for before in by_pattern or [old.get("additionalProperties", True)]:
                yield from self.compare(
                    {} if before is True else before, values, (*path, "[value]")
                )

    def keys(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield the faults of a map's keys."""
        if "propertyNames" not in new:
            return
        if "properties" in old:
            before: Schema = {"enum": [*old["properties"]]}
        else:
            before = _key(old.get("propertyNames", {}))
        yield from self.compare(before, _key(new["propertyNames"]), (*path, "[key]"))

    def items(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield the faults of the items of a list, or of a tuple place by place."""
        if old.get("type") != "array":
            return
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        for place in range(max(len(before), len(after))):
            one = before[place] if place < len(before) else _rest(old)
            two = after[place] if place < len(after) else _rest(new)
            if one is not None and two is not None:
                yield from self.compare(one, two, (*path, f"[{place}]"))
        one, two = _rest(old), _rest(new)
        if one is not None and two is not None:
            yield from self.compare(one, two, (*path, "[]"))

    def others(self, old: Schema, new: Schema, path: tuple[str, ...]) -> Iterator[Fault]:
        """Yield a fault for each changed keyword without a known rule."""
        for word in sorted(new.keys() - _KNOWN):
            if old.get(word) != new[word]:
                yield Fault(path, _words(old, (word,)), f"the code wants {_words(new, (word,))}")


def _named(word: str, is_within: Callable[[Any, Any], bool]) -> tuple[tuple[str, ...], Any]:
    """Return a table row for one keyword, which limits nothing if it is missing."""

    def rule(old: Schema, new: Schema) -> bool:
        return word not in new or (word in old and is_within(old[word], new[word]))

    return (word,), rule


def _has_no_more_digits(old: Schema, new: Schema) -> bool:
    """Compare the digits of Decimals: all of them, after the point, and before it."""
    (most, places, whole), (most_now, places_now, whole_now) = map(_digits, (old, new))
    return most <= most_now and places <= places_now and whole <= whole_now


def _digits(schema: Schema) -> tuple[float, float, float]:
    most, places = (schema.get(word, float("inf")) for word in ("x-digits", "x-places"))
    return most, places, most - places if places < float("inf") else most


def _shortest(schema: Schema) -> int:
    is_never_empty = schema.get("format", "base64url") != "base64url"
    return int(schema.get("minLength", is_never_empty))


def _is_uuid(old: str, new: str) -> bool:
    return new == "uuid" and old.startswith("uuid")  # pydantic's name for a UUID of one version


def _lowest(schema: Schema) -> tuple[float, bool]:
    """Return the smallest number, and whether it is excluded."""
    least = (schema.get("minimum", float("-inf")), False)
    above = (schema.get("exclusiveMinimum", float("-inf")), "exclusiveMinimum" in schema)
    if schema.get("type") == "integer" and above[1]:
        above = (above[0] + 1, False)
    return max(least, above)


def _highest(schema: Schema) -> tuple[float, bool]:
    """Return the largest number, and whether it is included."""
    most = (schema.get("maximum", float("inf")), True)
    below = (schema.get("exclusiveMaximum", float("inf")), "exclusiveMaximum" not in schema)
    if schema.get("type") == "integer" and not below[1]:
        below = (below[0] - 1, True)
    return min(most, below)


LIMITS: dict[tuple[str, ...], Callable[[Schema, Schema], bool]] = dict(
    [
        (("minimum", "exclusiveMinimum"), lambda old, new: _lowest(old) >= _lowest(new)),
        (("maximum", "exclusiveMaximum"), lambda old, new: _highest(old) <= _highest(new)),
        _named("multipleOf", lambda old, new: old % new == 0),
        (("minLength",), lambda old, new: _shortest(old) >= new.get("minLength", 0)),
        _named("maxLength", lambda old, new: old <= new),
        (("minItems",), lambda old, new: old.get("minItems", 0) >= new.get("minItems", 0)),
        _named("maxItems", lambda old, new: old <= new),
        (
            ("minProperties",),
            lambda old, new: old.get("minProperties", 0) >= new.get("minProperties", 0),
        ),
        _named("maxProperties", lambda old, new: old <= new),
        (
            ("x-minLength",),
            lambda old, new: old.get("x-minLength", 0) >= new.get("x-minLength", 0),
        ),
        _named("x-maxLength", lambda old, new: old <= new),
        (("x-digits", "x-places"), lambda old, new: _has_no_more_digits(old, new)),
        _named("pattern", lambda old, new: old == new),
        _named("format", lambda old, new: old == new or _is_uuid(old, new)),
        _named("uniqueItems", lambda old, new: old == new),
        _named("patternProperties", lambda old, new: old == new),
    ]
)
"""By keywords: whether the new limit allows all values that the old one does."""

_STEPS = (
    _Comparison.limits,
    _Comparison.fields,
    _Comparison.maps,
    _Comparison.keys,
    _Comparison.items,
    _Comparison.others,
)

_KNOWN = {each for words in LIMITS for each in words} | {
    "type",
    "const",
    "enum",
    "anyOf",
    "oneOf",
    "discriminator",
    "properties",
    "required",
    "additionalProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "$ref",
    "$defs",
    "default",
    ALIASES,
    NAME,
    PERSONAL,
}


def told(schema: Schema, definitions: dict[str, Schema]) -> str:
    """Return a schema in a few words: `text`, `list of Line`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if members := _members(schema):
        return " or ".join(dict.fromkeys(told(each, definitions) for each in members))
    if "enum" in schema:
        return f"one of {_listed(schema['enum'])}"
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        if isinstance(schema.get("items"), dict):
            return f"list of {told(schema['items'], definitions)}"
        return "tuple" if "prefixItems" in schema else "list"
    if kind == "object":
        return "model" if "properties" in schema else "map"
    if kind == "string":
        return str(schema.get("format", "text"))
    return str({"null": "null", None: "anything"}.get(kind, kind))


def _retyped(path: tuple[str, ...], old: str, new: str) -> Fault:
    return Fault(path, old, f"the code wants {new}")


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    seen: set[str] = set()
    while "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in seen:
            raise ValueError(f"{name} refers only to itself")
        seen.add(name)
        others = {word: each for word, each in schema.items() if word not in ("$ref", "$defs")}
        schema = definitions[name] | others
    return schema


def _members(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or []


def _key(schema: Schema) -> Schema:
    """Return the schema of a map's keys, which is text by default."""
    return schema if schema.keys() & {"type", "anyOf", "$ref"} else {"type": "string", **schema}


def _tagged(union: Schema, member: Schema) -> Schema:
    """Return a member of a union: with a discriminator field, all members have that field."""
    tag = union.get("discriminator", {}).get("propertyName")
    if tag is None or "properties" not in member:
        return member
    return member | {"required": sorted({*member.get("required", ()), tag})}


def _untagged(old: Schema, union: Schema, path: tuple[str, ...]) -> list[Fault]:
    """Return a fault if the union's discriminator may be missing in old values."""
    tag = union.get("discriminator", {}).get("propertyName")
    if tag is None or old.get("type") != "object" or tag in old.get("required", ()):
        return []
    return [Fault((*path, tag), SOMETIMES_NONE, "and it says which member of the union it is")]


def _names(name: str, field: Schema) -> list[str]:
    """Return the names under which a field may be in an event."""
    return [name, *field.get(ALIASES, ())]


def _readers(fields: dict[str, Schema]) -> dict[str, str]:
    """Return, by name in an event, the field that reads it."""
    aliases = {alias: name for name, field in fields.items() for alias in field.get(ALIASES, ())}
    return aliases | {each: name for name, field in fields.items() for each in _own(name, field)}


def _own(name: str, field: Schema) -> set[str]:
    return {name, field.get(NAME, name)}


def _fits(old: Any, new: Any) -> bool:
    return new is None or old == new or (old == "integer" and new == "number")


def _rest(schema: Schema) -> Schema | None:
    """Return the schema of the items after a tuple's own places; None if there are none."""
    items = schema.get("items", {})
    if items is False or schema.get("maxItems", float("inf")) <= len(schema.get("prefixItems", ())):
        return None
    return {} if items is True else dict(items)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


_ALL_OF: dict[str, list[Any]] = {"null": [None], "boolean": [False, True]}
"""By type: all values of types that have few."""

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _takes(value: Any, new: Schema) -> bool:
    exact: Schema = {"type": _JSON_TYPES.get(type(value))}
    if isinstance(value, str):
        exact |= {"minLength": len(value), "maxLength": len(value)}
        if "pattern" in new and _matches(new["pattern"], value):
            exact["pattern"] = new["pattern"]
    elif isinstance(value, int | float):
        exact |= {"minimum": value, "maximum": value}
        if "multipleOf" in new and value % new["multipleOf"] == 0:
            exact["multipleOf"] = new["multipleOf"]
    if new.keys() - _KNOWN or not _fits(exact["type"], new.get("type")):
        return False
    return all(rule(exact, new) for rule in LIMITS.values())


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # pydantic's patterns are Rust's, which support more
        return False


def _words(schema: Schema, words: tuple[str, ...]) -> str:
    found = [f"{word} {json.dumps(schema[word])}" for word in words if word in schema]
    return " and ".join(found) or f"no {words[0]}"


def _listed(values: list[Any]) -> str:
    return ", ".join(each if isinstance(each, str) else json.dumps(each) for each in values)
