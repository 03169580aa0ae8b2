"""The document's schemas: the domain's by pydantic, the gateway's own by msgspec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import msgspec
from litestar.openapi.spec import Reference, Schema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from rayfold import (
    Command,
    ComposedQuery,
    PageQuery,
    Query,
    Receipt,
    Registry,
    SqlQuery,
    ViewQueryDefinition,
)

_PLACE = "#/components/schemas/"
_REVISION = {"type": "integer", "minimum": 0}

_Json = dict[str, Any]
_Mode = Literal["validation", "serialization"]


@dataclass
class Given(Schema):
    """A schema exactly as pydantic or msgspec has made it."""

    given: _Json = field(default_factory=dict)

    def to_schema(self) -> _Json:
        """Return the schema."""
        return self.given


def ref(name: str) -> Reference:
    """Return a reference to a schema of the document."""
    return Reference(ref=_PLACE + name)


class ByName(GenerateJsonSchema):
    """Describes fields by their own names, which requests may use and, by default, answers have.

    Requests may use an alias too. A path parameter has only the field's own name.
    """

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a model, with aliases if answers are written with them."""
        outside = self.by_alias
        answered = self.mode == "serialization"
        self.by_alias = answered and schema["cls"].model_config.get("serialize_by_alias", False)
        try:
            return super().model_schema(schema)
        finally:
            self.by_alias = outside

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a field with a default; omit the default if it is a model.

        `openapi-python-client` skips a command with such a default, and its paths. It accepts the
        default of a `dict`, unless that is a member of a union.
        """
        described = super().default_schema(schema)
        if described.get("type") != "object" and isinstance(described.get("default"), dict):
            del described["default"]
        return described


class Schemas:
    """The schemas that the document's operations refer to, by name."""

    def __init__(self, registry: Registry, bodies: Iterable[type[msgspec.Struct | Enum]]) -> None:
        """Describe the domain's messages and answers, and the gateway's own `bodies`."""
        commands = [command.model for command in registry.commands.values()]
        queries = [query.model for query in registry.queries.values()]
        views = [view.model for view in registry.views.values()]
        answers: set[Any] = {*views, *(_answer_of(query) for query in queries)}
        models: list[tuple[Any, _Mode]] = [(each, "validation") for each in (*commands, *queries)]
        models += [(each, "serialization") for each in (Receipt, *sorted(answers, key=_qualified))]
        _, own = msgspec.json.schema_components(bodies, ref_template=_PLACE + "{name}")
        described = models_json_schema(
            models,
            by_alias=False,
            ref_template=_PLACE + "{model}",
            schema_generator=ByName,
        )
        names, definitions = _renamed(described, own)
        self._names = {key: each["$ref"].removeprefix(_PLACE) for key, each in names.items()}
        self._schemas: dict[str, _Json] = definitions["$defs"] | own
        _entitle(self._schemas)
        # A query is sent in the URL: its fields are parameters, and it has no body.
        self._fields: dict[str, _Json] = {}
        for query in queries:
            schema = self._schemas.pop(self._name(query, "validation"))
            self._fields[query.__rayfold__.name] = schema.get("properties", {})
        derived = {route.message: route.derived_id for route in registry.routes}
        for command in commands:
            whole = self._schemas[self._name(command, "validation")]
            self._fields[command.__rayfold__.name] = whole["properties"]
            _leave_out(whole, command.__rayfold__.server_supplied)
            _leave_open(whole, derived.get(command))
        for view in views:
            row = self._schemas[self._name(view, "serialization")]
            row["properties"] = {**row["properties"], "revision": _REVISION}
            row["required"] = [*row.get("required", []), "revision"]

    @property
    def all(self) -> dict[str, Schema]:
        """Return the schemas by name."""
        return {name: Given(given=schema) for name, schema in sorted(self._schemas.items())}

    def field(self, message: type[Command] | type[Query], name: str) -> Given:
        """Return the schema of a field as a parameter: text, which is never null."""
        schema: _Json = self._fields[message.__rayfold__.name][name]
        values = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if len(values) == 1:
            kept = {key: value for key, value in schema.items() if key in ("title", "description")}
            schema = {**values[0], **kept}
        return Given(given=schema)

    def fields(self, message: type[Command] | type[Query]) -> list[str]:
        """Return the names of a message's fields."""
        return list(self._fields[message.__rayfold__.name])

    def body(self, command: type[Command], elsewhere: Iterable[str] = ()) -> tuple[str, bool]:
        """Return the name of a command's body without the fields that are given `elsewhere`, and
        whether the body is required; the name is empty if there is no body.
        """
        name = self._name(command, "validation")
        body = self._schemas[name]
        if elsewhere := set(elsewhere):
            body = {**body, "title": f"{body['title']}Body"}
            _leave_out(body, elsewhere)
            name = f"{name}Body"
            if body["properties"]:
                self._schemas[name] = body
        return (name, bool(body.get("required"))) if body["properties"] else ("", False)

    def answer(self, query: type[Query]) -> str:
        """Return the name of the schema of a query's answer."""
        answer = self._name(_answer_of(query), "serialization")
        if issubclass(query, PageQuery):
            cursor = {"type": ["string", "null"], "description": "Where the next page begins"}
            return self._list(f"{answer}Page", answer, "next_cursor", cursor)
        if issubclass(query, SqlQuery):
            more = {"type": "boolean", "description": "Whether there are more rows than `limit`"}
            return self._list(f"{answer}Rows", answer, "more", more)
        return answer

    def minimal(self, query: type[Query]) -> str:
        """Return the name of the schema of a query's minimal representation."""
        row = self._name(_answer_of(query), "serialization")
        whole = self._schemas[row]
        self._schemas[f"{row}Minimal"] = minimal = {**whole, "title": f"{whole['title']}Minimal"}
        _leave_out(minimal, {"revision"})
        return f"{row}Minimal"

    def _list(self, name: str, item: str, beside: str, schema: _Json) -> str:
        items = {"type": "array", "items": {"$ref": _PLACE + item}}
        self._schemas[name] = {
            "title": name,
            "type": "object",
            "required": ["items", beside],
            "properties": {"items": items, beside: schema},
        }
        return name

    def _name(self, model: Any, mode: _Mode) -> str:
        name: str = self._names[model, mode]
        return name


def _renamed(described: tuple[Any, _Json], taken: Iterable[str]) -> tuple[Any, _Json]:
    """Return pydantic's schemas, with other names for those whose names are `taken`."""
    names, definitions = described
    schemas: _Json = definitions["$defs"]
    others = {name: f"Domain{name}" for name in taken if name in schemas}
    if not others:
        return described
    references = {_PLACE + name: _PLACE + other for name, other in others.items()}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return references.get(value, value) if isinstance(value, str) else value

    schemas = {others.get(name, name): renamed(each) for name, each in schemas.items()}
    return renamed(names), {"$defs": schemas}


def _entitle(schemas: dict[str, _Json]) -> None:
    """Replace titles that several schemas share by their names: client generators name classes so.

    A model has two schemas if it is written in another form than it is read, and two models may
    have the same name.
    """
    titles = Counter(each.get("title") for each in schemas.values())
    for name, each in schemas.items():
        if titles[each.get("title")] > 1:
            each["title"] = name


def _answer_of(query: type[Query]) -> Any:
    """Return the model of a query's answer, or of each of its items."""
    if issubclass(query, SqlQuery):
        return query.__rayfold__.row
    if issubclass(query, ComposedQuery):
        return query.__rayfold__.result
    definition = query.__rayfold__
    assert isinstance(definition, ViewQueryDefinition)
    return definition.view.model


def _qualified(model: Any) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _leave_out(schema: _Json, fields: Iterable[str]) -> None:
    left_out = set(fields)
    properties: Mapping[str, Any] = schema["properties"]
    schema["properties"] = {name: each for name, each in properties.items() if name not in left_out}
    schema["required"] = [name for name in schema.get("required", ()) if name not in left_out]


def _leave_open(schema: _Json, field: str | None) -> None:
    schema["required"] = [name for name in schema.get("required", ()) if name != field]
