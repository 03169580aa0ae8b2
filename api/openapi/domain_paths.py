"""The domain's operations: its routes, and every command and query by its name."""

from __future__ import annotations

from litestar.openapi.spec import OpenAPIResponse, Operation, Parameter, PathItem, Reference

from api.openapi.names import OperationIds
from api.openapi.operations import (
    CONSISTENCY_TOKEN,
    JSON,
    LAST_EVENT_ID,
    OF_COMMANDS,
    OF_QUERIES,
    RECEIPT_HEADERS,
    TEXT,
    TOKEN_HEADER,
    answer,
    body,
    content,
    path_parameter,
    problems,
    query_parameter,
)
from api.openapi.schemas import Given, Schemas
from api.queries.minimal import MEDIA_TYPE
from rayfold import Command, Query, Registry, Route, ViewQueryDefinition
from rayfold.derived_routes import HISTORY, LIVE, aggregate_of, is_live

_AS_OF = query_parameter(
    "as_of",
    Given(
        given={
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
    "Return the resource as it was at a revision, or at an RFC 3339 time",
)
_PREFER_MINIMAL = Parameter(
    "Prefer",
    "header",
    TEXT,
    "`wait=SECONDS`: wait so long for a store that has reached the token;"
    " `return=minimal`: the minimal representation",
)


class DomainPaths:
    """Describes the paths of one domain."""

    def __init__(self, registry: Registry, schemas: Schemas, ids: OperationIds) -> None:
        self._registry = registry
        self._schemas = schemas
        self._ids = ids
        around = any(each.has("query") for each in registry.middleware.values())
        self._of_middleware = (409, 500) if around else ()

    def add_to(self, paths: dict[str, PathItem]) -> None:
        """Add every path, declared ones first."""
        for route in self._registry.routes:
            item = paths.setdefault(route.path, PathItem())
            if issubclass(route.message, Command):
                operation = self._command(route.message, route.parameters, tag_of(route.path))
                setattr(item, route.method.lower(), operation)
            else:
                item.get = self._query(route.message, route.parameters, tag_of(route.path), route)
                if route.history and aggregate_of(self._registry, route) is not None:
                    self._add_past(paths, route, route.message)
                if is_live(route):
                    self._add_live(paths, route, route.message)
        for name, command in self._registry.commands.items():
            item = paths.setdefault(f"/commands/{name}", PathItem())
            item.post = self._command(command.model, (), "commands", "send")
        for name, query in self._registry.queries.items():
            item = paths.setdefault(f"/queries/{name}", PathItem())
            item.get = self._query(query.model, (), "queries", verb="ask")

    def _command(
        self, command: type[Command], in_path: tuple[str, ...], tag: str, verb: str = ""
    ) -> Operation:
        schema, required = self._schemas.body(command, in_path)
        durable = Given(
            given={
                "anyOf": [
                    {"$ref": "#/components/schemas/Receipt"},
                    {"$ref": "#/components/schemas/CommandStatus"},
                ]
            }
        )
        said = "The events are durable: the receipt; or the status of a command that is sent later"
        receipt = content(said, {JSON: durable}, RECEIPT_HEADERS)
        return Operation(
            tags=[tag],
            summary=_summary(command),
            operation_id=self._ids.of(verb, command.__rayfold__.name),
            parameters=[*self._in_path(command, in_path), *OF_COMMANDS],
            request_body=body(schema, required=required) if schema else None,
            responses={"202": receipt, **problems(404, 409, 410, 412, 413, 415, 422, 500)},
        )

    def _query(
        self,
        query: type[Query],
        in_path: tuple[str, ...],
        tag: str,
        route: Route | None = None,
        verb: str = "",
    ) -> Operation:
        elsewhere = [name for name in self._schemas.fields(query) if name not in in_path]
        parameters: list[Parameter | Reference] = [*self._in_path(query, in_path)]
        for name in elsewhere:
            schema, required = self._schemas.field(query, name), _is_required(query, name)
            parameters.append(Parameter(name, "query", schema, required=required))
        parameters += OF_QUERIES
        schemas: dict[str, str | Given] = {JSON: self._schemas.answer(query)}
        if route is not None and aggregate_of(self._registry, route) is not None:
            parameters.insert(len(in_path), _AS_OF)
        if route is not None and route.minimal is not None:
            schemas[MEDIA_TYPE.decode()] = self._schemas.minimal(route.minimal)
            parameters = [_PREFER_MINIMAL if _is_prefer(each) else each for each in parameters]
        return Operation(
            tags=[tag],
            summary=_summary(query),
            operation_id=self._ids.of(verb, query.__rayfold__.name),
            parameters=parameters,
            responses={
                "200": content(_told(query), schemas, TOKEN_HEADER),
                "202": answer("No store has reached the Consistency-Token yet", "Processing"),
                "304": OpenAPIResponse("The representation has the entity tag of If-None-Match"),
                **problems(404, 422, 500, *self._of_middleware),
            },
        )

    def _add_past(self, paths: dict[str, PathItem], route: Route, query: type[Query]) -> None:
        events = Given(
            given={"type": "array", "items": {"$ref": "#/components/schemas/RecordedEvent"}}
        )
        paths[f"{route.path}{HISTORY}"] = PathItem(
            get=Operation(
                tags=[tag_of(route.path)],
                summary="The history: the events of the aggregate, in order",
                operation_id=self._ids.of("get", f"{_subject(query)}-history"),
                parameters=[*self._in_path(query, route.parameters), CONSISTENCY_TOKEN],
                responses={
                    "200": content("The events", {JSON: events}, TOKEN_HEADER),
                    **problems(404, 422, *self._of_middleware),
                },
            )
        )

    def _add_live(self, paths: dict[str, PathItem], route: Route, query: type[Query]) -> None:
        row = self._schemas.answer(query)
        stream = Given(
            given={
                "description": f"Server-Sent Events: `data` is {row} as JSON, `id` its position",
                # As `itemSchema` of OpenAPI 3.2: 3.1 has no word for what a stream is made of.
                "x-itemSchema": {
                    "type": "object",
                    "required": ["id", "data"],
                    "properties": {
                        "id": {"type": "string"},
                        "data": {
                            "type": "string",
                            "contentMediaType": JSON,
                            "contentSchema": {"$ref": f"#/components/schemas/{row}"},
                        },
                    },
                },
            }
        )
        paths[f"{route.path}{LIVE}"] = PathItem(
            get=Operation(
                tags=[tag_of(route.path)],
                summary="Server-Sent Events: the row now, then each change of it",
                operation_id=self._ids.of("watch", _subject(query)),
                parameters=[
                    *self._in_path(query, route.parameters),
                    LAST_EVENT_ID,
                    CONSISTENCY_TOKEN,
                ],
                responses={
                    "200": content("The stream", {"text/event-stream": stream}),
                    "202": answer("No store has reached the Consistency-Token yet", "Processing"),
                    **problems(404, 422, *self._of_middleware),
                },
            )
        )

    def _in_path(
        self, message: type[Command] | type[Query], names: tuple[str, ...]
    ) -> list[Parameter]:
        return [path_parameter(name, self._schemas.field(message, name)) for name in names]


def tag_of(path: str) -> str:
    """Return the tag of a declared path: its first segment."""
    return path.split("/")[1]


def _is_required(query: type[Query], name: str) -> bool:
    return query.model_fields[name].is_required()


def _is_prefer(parameter: Parameter | Reference) -> bool:
    return isinstance(parameter, Parameter) and parameter.name == "Prefer"


def _subject(query: type[Query]) -> str:
    return query.__rayfold__.name.removeprefix("get-")


def _summary(message: type[Command] | type[Query]) -> str:
    return (message.__doc__ or message.__rayfold__.name).strip().split("\n")[0].rstrip(".")


def _told(query: type[Query]) -> str:
    """Return what the answer to a query is; of a page, in which order its rows are."""
    definition = query.__rayfold__
    if not isinstance(definition, ViewQueryDefinition) or not definition.is_page:
        return "The answer"
    if definition.newest_first:
        return "A page of rows: the newest first"
    return "A page of rows: in the order in which they were created"
