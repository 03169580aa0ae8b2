"""The OpenAPI document, made from the domain's own models."""

from __future__ import annotations

from typing import Any

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode
from pydantic.json_schema import models_json_schema

from api.http.endpoint import Call, Endpoint
from api.http.reply import Reply, content
from api.openapi.parts import EVENT, PROBLEM, answer, gateway_paths, parameter, problems, ref
from api.queries.resources import aggregate_of
from rayfold import (
    Command,
    ComposedQuery,
    PageQuery,
    Query,
    Receipt,
    Registry,
    Route,
    SqlQuery,
)

_REF = "#/components/schemas/{model}"

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
    "traceparent": "W3C trace context, kept with the events",
}

_QUERY_HEADERS = {
    "Consistency-Token": "Of a receipt or an answer: answer from a store that is there already",
    "Prefer": "`wait=SECONDS`: for the token's sake; `return=minimal` where a route has such",
    "Rayfold-Store": "`memory` or `postgres`: the store to answer from",
}

_QUERY_PROBLEMS = {
    "400": "Malformed",
    "404": "Unknown",
    "422": "Invalid fields",
    "503": "A part is down",
}

_RECEIPT_HEADERS = {
    "Location": "Where the aggregate can be read",
    "ETag": "The revision",
    "Consistency-Token": "For queries that must see the effect",
}


def openapi_handler(registry: Registry, gate: Endpoint) -> HTTPRouteHandler:
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
    rows = {_row_type(query) for query in registry.queries.values()} - {*registry.views.values()}
    models += [(row, "serialization") for row in sorted(rows, key=lambda row: row.__qualname__)]
    names, definitions = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    schemas = dict(definitions.get("$defs", {}))
    schemas["Problem"] = PROBLEM
    for view in registry.views.values():
        row = schemas[_name(names[view, "serialization"])]
        row["properties"]["revision"] = {"type": "integer"}
        row.setdefault("required", []).append("revision")
    paths: dict[str, Any] = gateway_paths()
    for route in registry.routes:
        message: Any = route.message
        parameters = schemas[_name(names[message, "validation"])]["properties"]
        if issubclass(message, Command):
            operation = _command(route, schemas[_name(names[message, "validation"])])
        else:
            row = names[_row_type(message), "serialization"]
            operation = _query(route, parameters, row)
            if aggregate_of(registry, route) is not None:
                operation["parameters"].append(_AS_OF)
                paths.update(_past_and_present(route, parameters, row))
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rayfold", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _command(route: Route, whole: dict[str, Any]) -> dict[str, Any]:
    message: Any = route.message
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
    responses = {"202": answer("Durable. The receipt", ref("Receipt"), _RECEIPT_HEADERS)}
    operation: dict[str, Any] = {
        "operationId": message.name,
        "summary": _summary(message),
        "parameters": [
            *_path_parameters(route, whole["properties"]),
            *(parameter(name, "header", text) for name, text in _COMMAND_HEADERS.items()),
        ],
        "responses": {**responses, **problems(_COMMAND_PROBLEMS)},
    }
    if body["properties"]:
        operation["requestBody"] = {
            "required": bool(body["required"]),
            "content": {"application/json": {"schema": body}},
        }
    return operation


def _query(route: Route, fields: dict[str, Any], row: Any) -> dict[str, Any]:
    message: Any = route.message
    parameters = _path_parameters(route, fields)
    parameters += [
        parameter(name, "query", schema.get("description", ""), schema)
        for name, schema in fields.items()
        if name not in route.parameters
    ]
    parameters += [parameter(name, "header", text) for name, text in _QUERY_HEADERS.items()]
    whole = row
    if issubclass(message, PageQuery):
        whole = {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": whole},
                "next_cursor": {"type": ["string", "null"]},
            },
        }
    elif issubclass(message, SqlQuery):
        whole = {
            "type": "object",
            "required": ["items", "more"],
            "properties": {
                "items": {"type": "array", "items": whole},
                "more": {"type": "boolean"},
            },
        }
    responses = {
        "200": answer("The answer", whole, {"Consistency-Token": "How far the store has come"}),
        "202": {"description": "Processing: no store has reached the token yet"},
        "304": {"description": "As in If-None-Match"},
    }
    return {
        "operationId": message.name,
        "summary": _summary(message),
        "parameters": parameters,
        "responses": {**responses, **problems(_QUERY_PROBLEMS)},
    }


_AS_OF = parameter(
    "as_of", "query", "The resource as it was: at a revision, or at an RFC 3339 time"
)


def _past_and_present(route: Route, fields: dict[str, Any], row: Any) -> dict[str, Any]:
    parameters = _path_parameters(route, fields)
    name = route.message.name
    live = {
        "operationId": f"{name}-live",
        "summary": "Server-Sent Events: the row now, then each change of it",
        "parameters": [*parameters, parameter("Last-Event-ID", "header", "Where to go on")],
        "responses": {
            "200": {"description": "The stream", "content": {"text/event-stream": {"schema": row}}},
            **problems(_QUERY_PROBLEMS),
        },
    }
    history = {
        "operationId": f"{name}-history",
        "summary": "The audit trail: its events in order",
        "parameters": parameters,
        "responses": {
            "200": answer("The events", {"type": "array", "items": EVENT}),
            **problems(_QUERY_PROBLEMS),
        },
    }
    return {f"{route.path}/live": {"get": live}, f"{route.path}/history": {"get": history}}


def _path_parameters(route: Route, fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [parameter(name, "path", "", fields[name]) for name in route.parameters]


def _row_type(query: type[Query]) -> Any:
    """What an answer is, or each of its items."""
    if issubclass(query, SqlQuery):
        return query.row
    return query.result if issubclass(query, ComposedQuery) else query.view


def _summary(message: Any) -> str:
    return (message.__doc__ or "").strip().split("\n")[0]


def _name(reference: Any) -> str:
    name: str = reference["$ref"].rsplit("/", 1)[1]
    return name
