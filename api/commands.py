"""Routes that take commands: 202 and a receipt, once the events are durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

from litestar import Request, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from actors.entity import AggregateType
from actors.envelope import Envelope
from actors.errors import WriteSideError
from api.headers import headers_of, wait_seconds
from api.intake import Intake
from api.metrics import Metrics
from api.outcomes import Outcome, Outcomes
from api.problems import Problem
from api.queries import Queries
from api.responses import json_response
from rayfold import Receipt, Refused, Registry, Route

AnyRequest = Request[Any, Any, Any]


class Commands(Protocol):
    """See `actors.command_bus.CommandBus`."""

    async def send(self, envelope: Envelope) -> Receipt:
        """See `CommandBus.send`."""
        ...


class CommandRoutes:
    """Handlers for every command of a domain."""

    def __init__(
        self, registry: Registry, commands: Commands, queries: Queries, metrics: Metrics
    ) -> None:
        self._registry = registry
        self._commands = commands
        self._queries = queries
        self._metrics = metrics
        self._outcomes = Outcomes()
        self._views = {
            aggregate: [
                view.name
                for view in registry.views.values()
                if any(event in view.folds for event in aggregate.events)
            ]
            for aggregate in registry.aggregates.values()
        }
        self._locations = {
            aggregate: template
            for aggregate in registry.aggregates.values()
            if (template := _location(registry, aggregate)) is not None
        }

    def handlers(self) -> list[HTTPRouteHandler]:
        """One for each declared route, one for all commands by name, one for their outcomes."""
        declared = [
            self._declared(declared)
            for declared in self._registry.routes
            if declared.method != "GET"
        ]
        return [*declared, self._generic(), self._outcome()]

    def _declared(self, declared: Route) -> HTTPRouteHandler:
        command: Any = declared.message
        intake = Intake(self._registry, command, declared.parameters, declared.derived_id)
        handle = self._handler(intake)
        path = declared.path
        for name in declared.parameters:
            path = path.replace(f"{{{name}}}", f"{{{name}:str}}")
        return route(path, http_method=declared.method, status_code=202)(handle)

    def _generic(self) -> HTTPRouteHandler:
        intakes = {
            name: Intake(self._registry, command, (), self._derived(command))
            for name, command in self._registry.commands.items()
        }

        @post("/commands/{name:str}", status_code=202)
        async def by_name(request: AnyRequest) -> ASGIResponse:
            intake = intakes.get(request.path_params["name"])
            if intake is None:
                name = request.path_params["name"]
                raise Problem(404, "unknown-command", f"no command is named {name!r}")
            return await self._take(intake, request, {})

        return by_name

    def _derived(self, command: Any) -> str | None:
        for declared in self._registry.routes:
            if declared.message is command:
                return declared.derived_id
        return None

    def _handler(self, intake: Intake) -> Callable[[AnyRequest], Awaitable[ASGIResponse]]:
        async def take(request: AnyRequest) -> ASGIResponse:
            return await self._take(intake, request, request.path_params)

        return take

    async def _take(self, intake: Intake, request: AnyRequest, path: Any) -> ASGIResponse:
        headers = headers_of(request.scope)
        envelope = intake.envelope(path, await request.body(), headers)
        aggregate = self._registry.owner[intake.command]
        known = self._outcomes.get(envelope.command_id)
        if known is None:
            self._outcomes.put(envelope.command_id, Outcome(aggregate))
        try:
            receipt = await self._commands.send(envelope)
        except Refused as refusal:
            if known is None:
                self._outcomes.put(envelope.command_id, Outcome(aggregate, refusal=refusal))
            self._metrics.refused(envelope.command)
            raise
        except WriteSideError:
            if known is None:
                self._outcomes.forget(envelope.command_id)
            self._metrics.failed(envelope.command)
            raise
        self._outcomes.put(envelope.command_id, Outcome(aggregate, receipt))
        self._metrics.accepted(envelope.command)
        waited: list[tuple[bytes, bytes]] = []
        seconds = wait_seconds(headers)
        if seconds is not None:
            waited = await self._wait(aggregate, receipt, seconds)
        return self._answer(aggregate, envelope, receipt, waited)

    async def _wait(
        self, aggregate: AggregateType, receipt: Receipt, seconds: float
    ) -> list[tuple[bytes, bytes]]:
        behind = await self._queries.reached(self._views[aggregate], receipt.position, seconds)
        if behind:
            return [(b"rayfold-behind", ", ".join(behind).encode())]
        return [(b"preference-applied", b"wait=%d" % seconds)]

    def _answer(
        self,
        aggregate: AggregateType,
        envelope: Envelope,
        receipt: Receipt,
        more: list[tuple[bytes, bytes]],
    ) -> ASGIResponse:
        headers = [
            (b"etag", b'"%d"' % receipt.revision),
            (b"consistency-token", b"%d" % receipt.position),
            *more,
        ]
        location = self._locations.get(aggregate)
        if location is not None:
            headers.append((b"location", location(envelope.aggregate_id).encode()))
        return ASGIResponse(
            body=receipt.__pydantic_serializer__.to_json(receipt),
            status_code=202,
            media_type="application/json",
            encoded_headers=headers,
        )

    def _outcome(self) -> HTTPRouteHandler:
        @get("/commands/{command_id:str}")
        async def outcome(request: AnyRequest) -> ASGIResponse:
            try:
                command_id = str(UUID(request.path_params["command_id"]))
            except ValueError as error:
                raise Problem(422, "invalid-fields", "a command id is a UUID") from error
            known = self._outcomes.get(command_id)
            if known is None:
                raise Problem(
                    404, "unknown-command", "not a recent command of this gateway, or never sent"
                )
            return json_response(await self._describe(command_id, known))

        return outcome

    async def _describe(self, command_id: str, known: Outcome) -> dict[str, Any]:
        if known.refusal is not None:
            refusal = {"code": known.refusal.rule, "detail": known.refusal.detail}
            return {"command_id": command_id, "status": "rejected", **refusal}
        if known.receipt is None:
            return {"command_id": command_id, "status": "processing"}
        receipt = known.receipt
        behind = await self._queries.reached(self._views[known.aggregate], receipt.position, 0)
        return {
            "command_id": command_id,
            "status": "processing" if behind else "projected",
            "behind": behind,
            "stream": receipt.stream,
            "revision": receipt.revision,
            "position": receipt.position,
        }


def _location(registry: Registry, aggregate: AggregateType) -> Callable[[str], str] | None:
    """Where the aggregate is read: the first route whose view has its id for a key."""
    for declared in registry.routes:
        message: Any = declared.message
        if (
            declared.method == "GET"
            and declared.parameters == (aggregate.id_field,)
            and set(message.view.folds) <= set(aggregate.events)
        ):
            before, after = declared.path.split(f"{{{aggregate.id_field}}}")
            return partial(_joined, before, after)
    return None


def _joined(before: str, after: str, aggregate_id: str) -> str:
    return f"{before}{quote(aggregate_id, safe='')}{after}"
