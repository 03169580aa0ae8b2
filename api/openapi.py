"""The OpenAPI document, made from the domain's own models."""

from __future__ import annotations

from typing import Any

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode
from pydantic.json_schema import models_json_schema

from api.gate import Call, Gate
from api.reply import Reply, content
from rayfold import Command, PageQuery, Receipt, Registry, Route

_REF = "#/components/schemas/{model}"

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}

_COMMAND_PROBLEMS = {
    "400": "Malformed",
    "404": "Unknown",
    "409": "Rejected by a rule, whose code is in `code`",
    "412": "Not at the revision in If-Match",
    "413": "Too large",
    "422": "Invalid fields",
    "503": "Overloaded, or a part is down; safe to retry with the same Idempotency-Key",
}

_COMMAND_HEADERS = {
    "Idempotency-Key": "The command id; a repeat gives the first receipt",
    "If-Match": 'The revision that the aggregate must have: `"<revision>"`',
    "Prefer": "`wait=SECONDS`: answer when the views show the effect",
}


def openapi_handler(registry: Registry, gate: Gate) -> HTTPRouteHandler:
    """`GET /schema`."""
    reply = content(encode(openapi(registry)), b"application/vnd.oai.openapi+json")

    async def schema(call: Call) -> Reply:
        return reply

    return gate.handler("GET", "/schema", schema, public=True)


def openapi(registry: Registry) -> dict[str, Any]:
    """An OpenAPI 3.1 document of the domain's routes."""
    messages: list[Any] = [*registry.commands.values(), *registry.queries.values(), Receipt]
    models = [(model, "validation") for model in messages]
    models += [(view, "serialization") for view in registry.views.values()]
    names, definitions = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    schemas = dict(definitions.get("$defs", {}))
    schemas["Problem"] = _PROBLEM
    paths: dict[str, Any] = {}
    for route in registry.routes:
        message: Any = route.message
        if issubclass(message, Command):
            operation = _command(route, names[message, "validation"], schemas)
        else:
            operation = _query(route, names[message.view, "serialization"])
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rayfold", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _command(route: Route, ref: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    message: Any = route.message
    name = ref["$ref"].rsplit("/", 1)[1]
    whole = schemas[name]
    hidden = {*route.parameters, *message.server_supplied}
    body = {
        **whole,
        "properties": {k: v for k, v in whole["properties"].items() if k not in hidden},
        "required": [
            field
            for field in whole.get("required", [])
            if field not in hidden and field != route.derived_id
        ],
    }
    receipt = {"$ref": "#/components/schemas/Receipt"}
    operation: dict[str, Any] = {
        "operationId": message.name,
        "summary": (message.__doc__ or "").strip().split("\n")[0],
        "parameters": [
            *_path_parameters(route),
            *(_header(name, text) for name, text in _COMMAND_HEADERS.items()),
        ],
        "responses": {
            "202": {
                "description": "Durable. The receipt",
                "content": {"application/json": {"schema": receipt}},
            },
            **_problems(_COMMAND_PROBLEMS),
        },
    }
    if body["properties"]:
        operation["requestBody"] = {
            "required": bool(body["required"]),
            "content": {"application/json": {"schema": body}},
        }
    return operation


def _query(route: Route, row: Any) -> dict[str, Any]:
    message: Any = route.message
    parameters = _path_parameters(route)
    answer = row
    if issubclass(message, PageQuery):
        for field in message.model_fields:
            parameters.append({"name": field, "in": "query", "schema": {"type": "string"}})
        answer = {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": row},
                "next_cursor": {"type": ["string", "null"]},
            },
        }
    parameters.append(_header("Consistency-Token", "Answer from a store that is there already"))
    return {
        "operationId": message.name,
        "summary": (message.__doc__ or "").strip().split("\n")[0],
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The answer",
                "content": {"application/json": {"schema": answer}},
            },
            "202": {"description": "Processing: the view has not reached the token yet"},
            **_problems({"404": "Unknown", "422": "Invalid fields", "503": "A part is down"}),
        },
    }


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.parameters
    ]


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


def _problems(problems: dict[str, str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in problems.items()}
