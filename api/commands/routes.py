"""Routes that take commands: 202 and a receipt, once the events are durable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from litestar import Request, Response
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode

from actors.command_middleware import CommandMiddleware
from actors.envelope import Envelope
from actors.errors import InvalidCommand, KeyReused, Overloaded, RevisionMismatch, WriteSideError
from api.commands.decoder import CommandDecoder
from api.commands.records import CommandRecord, CommandRecords, Rejection
from api.commands.schedules import ScheduleRoutes
from api.http.auth import Role
from api.http.endpoint import Call, Endpoint, Handler
from api.http.headers import at_least, token, wait_seconds
from api.http.middleware import sender_of
from api.http.problems import Problem, on_http
from api.http.reply import Fields, Reply, json_bytes
from api.operators.metrics import Metrics
from api.queries.resources import needs_of
from api.queries.routes import Queries
from rayfold import Receipt, Refused, Registry, Route
from rayfold.aggregate import AggregateType
from rayfold.derived_routes import row_of, shown_by
from rayfold.errors import MiddlewareFailed
from rayfold.runtime.middleware_layers import DomainMiddleware
from rayfold.tenants import within

Location = Callable[[str, str], bytes]
"""Returns the URL of the aggregate with this stream, of this tenant."""


class Commands(Protocol):
    """See `actors.command_bus.CommandBus`."""

    async def send(self, envelope: Envelope) -> Receipt:
        """See `CommandBus.send`."""
        ...


class CommandRoutes:
    """Handlers for every command of a domain."""

    def __init__(
        self,
        registry: Registry,
        commands: Commands,
        queries: Queries,
        metrics: Metrics,
        records: CommandRecords,
        schedules: ScheduleRoutes,
        middleware: DomainMiddleware,
    ) -> None:
        self._registry = registry
        self._commands = commands
        self._around = CommandMiddleware.of(registry, commands, middleware)
        self._queries = queries
        self._metrics = metrics
        self._records = records
        self._schedules = schedules
        self._views = views_of(registry)
        self._locations: dict[AggregateType, Location] = {}
        for declared in registry.routes:
            view = row_of(declared)
            aggregate = shown_by(registry, view) if view is not None else None
            if aggregate is not None:
                self._locations.setdefault(aggregate, _location(declared, aggregate))

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return a handler for each declared route, and one for all commands by name."""
        declared = [
            endpoint.handler(
                route.method, route.path, self._taking(route), Role.WRITER, needs_of(route.message)
            )
            for route in self._registry.routes
            if route.method != "GET"
        ]
        derived = {route.message: route.derived_id for route in self._registry.routes}
        by_name = [
            endpoint.handler(
                "POST",
                f"/commands/{name}",
                self._handler(CommandDecoder(self._registry, each, (), derived.get(each.model))),
                Role.WRITER,
                each.needs,
            )
            for name, each in self._registry.commands.items()
        ]
        return [*declared, *by_name]

    def _taking(self, route: Route) -> Handler:
        command: Any = route.message
        return self._handler(
            CommandDecoder(self._registry, command.__rayfold__, route.parameters, route.derived_id)
        )

    def _handler(self, decoder: CommandDecoder) -> Handler:
        async def take(call: Call) -> Reply:
            return await self._take(decoder, call)

        return take

    async def _take(self, decoder: CommandDecoder, call: Call) -> Reply:
        headers = call.headers
        body = await call.body()
        envelope = decoder.envelope(call.path, body, headers, call.principal, call.tenant)
        if call.traced:
            # An unrecorded trace is not passed on: every event would carry it for ever.
            span = call.span
            envelope = envelope._replace(traceparent=span.traceparent if span is not None else "")
        seconds = wait_seconds(headers)
        at_least(headers)  # an invalid token is refused before anything is done
        if b"rayfold-not-before" in headers:
            return await self._schedules.take(envelope, headers, call.caller)
        receipt = await self._send(envelope, call)
        if call.span is not None:
            call.span.set("rayfold.command", envelope.command)
            call.span.set("rayfold.command_id", envelope.command_id)
            call.span.set("rayfold.stream", envelope.stream)
        waited = None
        if seconds is not None:
            views = concerned(self._views, receipt.revisions or (receipt.stream,))
            waited = _waited(seconds, await self._queries.reached(views, receipt.position, seconds))
        return self._answer(
            decoder.aggregate, envelope, receipt, waited, token(headers, receipt.position)
        )

    async def _send(self, envelope: Envelope, call: Call) -> Receipt:
        command_id = within(envelope.tenant, envelope.command_id)
        self._records.begin(command_id)
        try:
            if self._around is None:
                receipt = await self._commands.send(envelope)
            else:
                receipt = await self._around.send(envelope, sender_of(call))
        except Refused as refusal:
            rejection = Rejection(refusal.rule, refusal.detail)
            self._records.settle(command_id, CommandRecord(rejection=rejection))
            self._metrics.refused(envelope.command)
            raise
        except RevisionMismatch as mismatch:
            rejection = Rejection("revision-mismatch", str(mismatch))
            self._records.settle(command_id, CommandRecord(rejection=rejection))
            self._metrics.refused(envelope.command)
            raise
        except (KeyReused, InvalidCommand, Overloaded):
            self._records.forget(command_id)
            self._metrics.failed(envelope.command)
            raise
        except (WriteSideError, MiddlewareFailed) as error:
            self._records.settle(command_id, CommandRecord(error=str(error)))
            self._metrics.failed(envelope.command)
            raise
        self._records.put(command_id, CommandRecord(receipt))
        self._metrics.accepted(envelope.command)
        return receipt

    def _answer(
        self,
        aggregate: AggregateType,
        envelope: Envelope,
        receipt: Receipt,
        waited: Fields | None,
        position: bytes,
    ) -> Reply:
        # Written by hand: serializing a receipt by its model costs three times as much.
        body = b'{"command_id":"%b","stream":%b,"revision":%d,"position":%d}' % (
            envelope.command_id.encode(),
            encode(receipt.stream),
            receipt.revision,
            receipt.position,
        )
        if receipt.revisions:
            body = b'%b,"revisions":%b}' % (body[:-1], encode(receipt.revisions))
        headers = [
            (b"etag", b'"%d"' % receipt.revision),
            (b"consistency-token", position),
        ]
        location = self._locations.get(aggregate)
        if location is not None:
            headers.append((b"location", location(envelope.stream, envelope.tenant)))
        if waited is not None:
            headers += waited
        return json_bytes(body, 202, headers)


def on_no_such_method(
    request: Request[Any, Any, Any], error: MethodNotAllowedException
) -> Response[bytes]:
    """Answer a POST to an unknown command, whose path is also that of commands by id."""
    name = request.scope["path"].removeprefix("/commands/")
    if request.method == "POST" and name != request.scope["path"]:
        return Problem(404, "unknown-command", f"no command is named {name!r}").response()
    return on_http(request, error)


def views_of(registry: Registry) -> dict[str, list[str]]:
    """Return the names of the views and SQL projections that events change, by category."""
    concerned = {view.name: set(view.folds) for view in registry.views.values()}
    concerned |= {each.name: set(each.handlers) for each in registry.projections.values()}
    return {
        category: [name for name, events in concerned.items() if events & {*aggregate.events}]
        for category, aggregate in registry.aggregates.items()
    }


def concerned(views: dict[str, list[str]], streams: Iterable[str]) -> list[str]:
    """Return the names of those that events of these streams change."""
    found = [views.get(stream.partition("-")[0], ()) for stream in streams]
    return list(dict.fromkeys(name for names in found for name in names))


def _waited(seconds: float, behind: list[str]) -> Fields:
    if behind:
        return [(b"rayfold-behind", ", ".join(behind).encode())]
    return [(b"preference-applied", b"wait=%d" % seconds)]


def _location(declared: Route, aggregate: AggregateType) -> Location:
    before, after = declared.path.encode().split(b"{%b}" % aggregate.id_field.encode())
    return partial(_joined, before, after, len(aggregate.stream("")))


def _joined(before: bytes, after: bytes, prefix: int, stream: str, tenant: str) -> bytes:
    aggregate_id = stream[prefix:].removeprefix(within(tenant, ""))
    return before + quote(aggregate_id, safe="").encode() + after
