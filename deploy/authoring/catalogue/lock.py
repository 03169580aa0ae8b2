"""The event catalogue: the forms of each event on the log, from the code and the lock file.

`events.lock.json` is committed with the domain. It has the schema of every version that was ever
locked, sorted, with one field per line, so that a review shows what a change means for the log; and
the categories of the aggregates that yield each event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from deploy.authoring.catalogue.compatibility import ALIASES, NAME, Schema, bare, faults
from deploy.authoring.catalogue.shape import SHAPE
from deploy.errors import StartError
from rayfold import Event, EventDefinition, IntegrationEvent, Registry
from rayfold.core_schemas import fields_within
from rayfold.ordered_sets import ordered

FORMAT = 2
"""The version of the lock file; a later Rayfold may write another. The first has no categories."""

FILE = "events.lock.json"


@dataclass
class Locked:
    """One event: its version, and the schemas of all versions that may be on a log."""

    version: int
    versions: dict[int, Schema]
    categories: list[str] = field(default_factory=list)
    """The categories of the aggregates that yield it. Empty if there are none, or none were
    recorded.
    """


@dataclass
class Catalogue:
    """By name: the events that aggregates yield, and those that publications carry."""

    events: dict[str, Locked] = field(default_factory=dict)
    integration_events: dict[str, Locked] = field(default_factory=dict)


class _File(BaseModel, extra="forbid"):
    """The content of the lock file."""

    class Entry(BaseModel, extra="forbid"):
        version: int
        versions: dict[int, Schema]
        categories: list[str] = []

    format: int
    events: dict[str, Entry]
    integration_events: dict[str, Entry]


class _AsRead(GenerateJsonSchema):
    """Generates the schema that the log's reader accepts, with the field names used on the log."""

    ignored_warning_kinds = {  # noqa: RUF012 (as pydantic has it)
        "skipped-choice",
        "non-serializable-default",
        "skipped-discriminator",
    }

    def model_field_schema(self, schema: Any) -> Schema:
        """See pydantic; adds the other names under which the field is read."""
        return super().model_field_schema(schema) | _aliases(schema)

    def dataclass_field_schema(self, schema: Any) -> Schema:
        """See `model_field_schema`."""
        return super().dataclass_field_schema(schema) | _aliases(schema)

    def decimal_schema(self, schema: Any) -> Schema:
        """See pydantic, whose schema only says that it is text."""
        digits = {
            word: schema[each]
            for word, each in (("x-digits", "max_digits"), ("x-places", "decimal_places"))
            if each in schema
        }
        number = super().decimal_schema(schema)["anyOf"][0] | digits
        return {"anyOf": [number, {"type": "string", "format": "decimal", **digits}]}

    def dict_schema(self, schema: Any) -> Schema:
        """See pydantic, which does not distinguish numeric keys (as text) from other text."""
        found = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        if keys.keys() & {"type", "anyOf"} and keys.get("type") != "string":
            found["propertyNames"] = keys
        return found

    def date_schema(self, schema: Any) -> Schema:
        """See pydantic, whose schema lacks the limits of these texts; so do those below."""
        return super().date_schema(schema) | _limits(schema)

    def time_schema(self, schema: Any) -> Schema:
        """See `date_schema`."""
        return super().time_schema(schema) | _limits(schema)

    def datetime_schema(self, schema: Any) -> Schema:
        """See `date_schema`."""
        return super().datetime_schema(schema) | _limits(schema)

    def timedelta_schema(self, schema: Any) -> Schema:
        """See `date_schema`."""
        return super().timedelta_schema(schema) | _limits(schema)

    def url_schema(self, schema: Any) -> Schema:
        """See `date_schema`."""
        return super().url_schema(schema) | _limits(schema)

    def bytes_schema(self, schema: Any) -> Schema:
        """See pydantic, which gives the lengths in bytes as those of the text."""
        found = super().bytes_schema(schema)
        lengths = {word: found.pop(word) for word in ("minLength", "maxLength") if word in found}
        return found | {f"x-{word}": length for word, length in lengths.items()}

    def encode_default(self, dflt: Any) -> Any:
        """See pydantic, which writes a set in a different order in each process."""
        return super().encode_default(ordered(dflt))

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        """See pydantic; types without a schema are not compared."""
        return {}


class _AsPublished(_AsRead):
    """The same for an integration event, which uses its declared aliases on the log."""

    def model_schema(self, schema: Any) -> Schema:
        """See pydantic; a field has the name under which it is written."""
        return _as_written(schema, super().model_schema(schema))

    def dataclass_schema(self, schema: Any) -> Schema:
        """See `model_schema`."""
        return _as_written(schema, super().dataclass_schema(schema))


def _as_written(schema: Any, found: Schema) -> Schema:
    if schema.get("root_model") or not schema.get("config", {}).get("serialize_by_alias"):
        return found
    for own, field_schema in fields_within(schema, {}):
        written = field_schema.get("serialization_alias", own)
        if written != own:
            described = found["properties"].pop(own) | {NAME: own}
            aliases = [each for each in described.pop(ALIASES, ()) if each != written]
            found["properties"][written] = described | ({ALIASES: aliases} if aliases else {})
            if own in (required := found.get("required", [])):
                required[required.index(own)] = written
    return found


def catalogue_of(registry: Registry) -> Catalogue:
    """Return the catalogue of the code, which has only the current version of each event."""
    return Catalogue(
        {
            name: _locked(each, sorted(registry.categories_of.get(name, ())))
            for name, each in registry.events.items()
        },
        {name: _locked(each) for name, each in registry.integration_events.items()},
    )


def _locked(definition: EventDefinition, categories: Sequence[str] = ()) -> Locked:
    versions = {definition.version: schema_of(definition.model)}
    return Locked(definition.version, versions, [*categories])


def schema_of(model: type[Event]) -> Schema:
    """Return the schema that the log's reader accepts for that event."""
    generator = _AsPublished if issubclass(model, IntegrationEvent) else _AsRead
    schema: Schema = bare(model.model_json_schema(by_alias=False, schema_generator=generator))
    return schema


def read(file: Path) -> Catalogue | None:
    """Return the content of a lock file; None if there is none.

    Raises:
        StartError: it is damaged, or of a later Rayfold.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StartError(f"{file} cannot be read: {error}") from error
    try:
        data = json.loads(text)
        number = data["format"] if isinstance(data, dict) else None
        if isinstance(number, int) and number > FORMAT:
            raise StartError(
                f"{file} has format {number}, this Rayfold reads {FORMAT}: upgrade Rayfold"
            )
        found = _File.model_validate(data)
        if not 1 <= found.format <= FORMAT:
            raise ValueError(f"there is no format {found.format}")
        for entries in (found.events, found.integration_events):
            for name, entry in entries.items():
                _check(name, entry)
    except (
        *(ValueError, KeyError, TypeError, AttributeError, ArithmeticError),
        RecursionError,
    ) as error:
        reason = _first_of(error) if isinstance(error, ValidationError) else error
        raise StartError(
            f"{file} is not a lock file ({reason}): restore the committed one"
        ) from error
    return Catalogue(_entries(found.events), _entries(found.integration_events))


def _first_of(refused: ValidationError) -> str:
    first = refused.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _check(name: str, entry: _File.Entry) -> None:
    """Raise an exception if an entry was edited such that it cannot be compared."""
    if entry.version not in entry.versions:
        raise ValueError(f"{name} lacks version {entry.version}")
    for schema in entry.versions.values():
        SHAPE.validate_python(schema)
        if schema.get("type") != "object" or faults(schema, schema):
            raise ValueError(f"{name} has a schema that is not one of an event")


def _entries(entries: dict[str, _File.Entry]) -> dict[str, Locked]:
    return {
        name: Locked(each.version, each.versions, each.categories) for name, each in entries.items()
    }


def text_of(catalogue: Catalogue) -> str:
    """Return the lock file's text, which is always the same for the same catalogue."""
    kinds = {"events": catalogue.events, "integration_events": catalogue.integration_events}
    data = {
        "format": FORMAT,
        **{
            kind: {
                name: {
                    "version": each.version,
                    "versions": {str(number): each.versions[number] for number in each.versions},
                    **({"categories": each.categories} if each.categories else {}),
                }
                for name, each in entries.items()
            }
            for kind, entries in kinds.items()
        },
    }
    return _lines(data) + "\n"


def _lines(value: Schema, indent: str = "", *, is_fields: bool = False) -> str:
    """Return sorted JSON with one line for each field of a model."""
    deeper = indent + "  "
    lines = []
    for name, each in sorted(value.items(), key=lambda item: _in_order(item[0])):
        if is_fields or not isinstance(each, dict) or not each:
            child = json.dumps(each, sort_keys=True, ensure_ascii=False)
        else:
            child = _lines(each, deeper, is_fields=name == "properties")
        lines.append(f"{deeper}{json.dumps(name, ensure_ascii=False)}: {child}")
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _in_order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (0, name)  # versions are numbers


def _limits(core: Any) -> Schema:
    words = ("ge", "gt", "le", "lt", "now_op", "tz_constraint", "allowed_schemes")
    # All instants have an offset, so it does not limit one of them.
    return {f"x-{word}": str(core[word]) for word in words if core.get(word, "aware") != "aware"}


def _aliases(core: Any) -> Schema:
    given = core.get("validation_alias", [])
    paths = [[given]] if isinstance(given, str) else given
    if paths and not isinstance(paths[0], list):
        paths = [paths]
    names = sorted(path[0] for path in paths if len(path) == 1)
    return {ALIASES: names} if names else {}
