"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from typing import Any

from litestar import Litestar
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send

from api.commands.records import CommandRecords
from api.commands.routes import CommandRoutes, on_no_such_method, views_of
from api.commands.schedules import ScheduleRoutes
from api.commands.status import CommandStatus
from api.console.access import Openness
from api.console.routes import console_handlers
from api.http.admission import Admission
from api.http.auth import Principals
from api.http.endpoint import Endpoint
from api.http.limits import Limits
from api.http.origin import Origins
from api.http.paths import held
from api.http.problems import HANDLERS, Problem
from api.http.reply import Reply
from api.http.traces import RequestTraces
from api.openapi.routes import openapi_handlers
from api.operators.explaining import ExplainRoutes
from api.operators.health import Health
from api.operators.metrics import Metrics
from api.operators.processes import ProcessRoutes
from api.operators.publications import PublicationRoutes
from api.operators.routes import OperatorRoutes
from api.ports import Ports
from api.queries.history import HistoryRoutes
from api.queries.live import live_handlers
from api.queries.query_middleware import QueryMiddleware
from api.queries.routes import QueryRoutes
from rayfold import Registry
from rayfold.runtime.middleware_layers import DomainMiddleware


class Gateway:
    """The ASGI application; setting `closing` ends its streams."""

    def __init__(self, app: Litestar, endpoint: Endpoint, middleware: DomainMiddleware) -> None:
        self._app = app
        self._middleware = middleware
        self._direct = endpoint.direct
        self.closing = endpoint.closing
        self.access = endpoint.access

    async def close(self) -> None:
        """Close what the domain's middleware has opened."""
        await self._middleware.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        app = self._direct.find(scope)
        if app is not None:
            await app(scope, receive, send)
            return
        scope = held(scope)
        if "//" in scope.get("path", ""):
            # Litestar treats two slashes as one: `/orders//lines`, with an empty id, would reach
            # another route, and `//operators` would bypass the rules of a proxy.
            await _answer(NO_EMPTY_PART.reply(), send)
        else:
            await self._app(scope, receive, send)


NO_EMPTY_PART = Problem(404, "not-found", "a path has no empty segment")


async def _answer(reply: Reply, send: Send) -> None:
    status, headers, body = reply
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    whole: Any = {"type": "http.response.body", "body": body}
    await send(start)
    await send(whole)


def create_app(
    registry: Registry,
    ports: Ports,
    admission: Admission,
    *,
    openness: Openness = list,
    limits: Limits | None = None,
    traces: RequestTraces | None = None,
) -> Gateway:
    """Return the application of a domain."""
    principals = Principals(admission.tokens, admission.signed)
    origins = Origins(admission.hosts, open_to_all=principals.open)
    metrics = Metrics()
    endpoint = Endpoint(
        metrics,
        principals,
        origins,
        limits or Limits.of_process(),
        admission.rates,
        ports.audit,
        traces,
        tenants=registry.tenants,
    )
    middleware = DomainMiddleware(registry)
    handlers = [
        *_of_domain(registry, ports, endpoint, metrics, middleware),
        *_of_operators(registry, ports, endpoint, metrics),
        *console_handlers(registry, ports, openness, endpoint, principals, origins, metrics),
        *openapi_handlers(registry, endpoint, secured=not principals.open),
    ]
    app = Litestar(
        endpoint.ordered(handlers),
        exception_handlers={**HANDLERS, MethodNotAllowedException: on_no_such_method},
        openapi_config=None,
        logging_config=None,
        debug=False,  # else an environment variable could turn on error pages with our source
        pdb_on_exception=False,
    )
    return Gateway(app, endpoint, middleware)


def _of_domain(
    registry: Registry,
    ports: Ports,
    endpoint: Endpoint,
    metrics: Metrics,
    middleware: DomainMiddleware,
) -> list[HTTPRouteHandler]:
    """Return the handlers of commands, of their outcomes, and of queries."""
    commands, queries = ports.commands, ports.queries
    records = CommandRecords()
    scheduling = ScheduleRoutes(registry, ports.schedules, metrics)
    around = QueryMiddleware.of(middleware)
    history = HistoryRoutes(registry, ports.histories, around)
    return [
        *CommandRoutes(
            registry, commands, queries, metrics, records, scheduling, middleware
        ).handlers(endpoint),
        *CommandStatus(
            registry, records, queries, views_of(registry), scheduling, ports.outcomes
        ).handlers(endpoint),
        *scheduling.handlers(endpoint),
        *QueryRoutes(registry, queries, history, metrics, around).handlers(endpoint),
        *history.handlers(endpoint),
        *live_handlers(registry, queries, endpoint, around),
    ]


def _of_operators(
    registry: Registry, ports: Ports, endpoint: Endpoint, metrics: Metrics
) -> list[HTTPRouteHandler]:
    operations = ports.operations
    return [
        *Health(operations.parts).handlers(endpoint),
        *OperatorRoutes(operations, metrics, ports.audit, ports.browser).handlers(endpoint),
        *ExplainRoutes(registry, operations).handlers(endpoint),
        *ProcessRoutes(ports.processes).handlers(endpoint),
        *PublicationRoutes(ports.publications).handlers(endpoint),
    ]
