"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from litestar import Litestar
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.commands.records import CommandRecords
from api.commands.routes import CommandRoutes, Commands, on_no_such_method, views_of
from api.commands.schedules import NoSchedules, ScheduleRoutes, Schedules
from api.commands.status import CommandStatus, NoOutcomes, Outcomes
from api.console.access import Openness
from api.console.log import Browser, NoBrowser
from api.console.routes import Ports, console_handlers
from api.http.auth import Principals, SignedTokens, Token
from api.http.endpoint import Audits, Endpoint
from api.http.limits import Limits
from api.http.origin import Origins
from api.http.paths import held
from api.http.problems import HANDLERS, Problem
from api.http.rates import Rates
from api.http.reply import Reply
from api.http.traces import RequestTraces
from api.openapi.routes import openapi_handlers
from api.operators.explaining import ExplainRoutes
from api.operators.health import Health
from api.operators.metrics import Metrics
from api.operators.processes import NoProcesses, Processes, ProcessRoutes
from api.operators.publications import NoPublications, PublicationRoutes, Publications
from api.operators.routes import Operations, OperatorRoutes
from api.queries.history import Histories, HistoryRoutes
from api.queries.live import live_handlers
from api.queries.query_middleware import QueryMiddleware
from api.queries.routes import Queries, QueryRoutes
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
            # Litestar takes two slashes for one: `/orders//lines`, of an empty id, would be
            # another route, and `//operators` none that a proxy's rules know.
            await _answer(NO_EMPTY_PART.reply(), send)
        else:
            await self._app(scope, receive, send)


NO_EMPTY_PART = Problem(404, "not-found", "no path has an empty part")


async def _answer(reply: Reply, send: Send) -> None:
    status, headers, body = reply
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    whole: Any = {"type": "http.response.body", "body": body}
    await send(start)
    await send(whole)


def create_app(
    registry: Registry,
    commands: Commands,
    queries: Queries,
    histories: Histories,
    operations: Operations,
    *,
    processes: Processes | None = None,
    schedules: Schedules | None = None,
    publications: Publications | None = None,
    outcomes: Outcomes | None = None,
    tokens: Collection[Token] = (),
    signed: SignedTokens | None = None,
    rates: Rates | None = None,
    audit: Audits | None = None,
    browser: Browser | None = None,
    openness: Openness = list,
    hosts: Collection[str] = (),
    limits: Limits | None = None,
    traces: RequestTraces | None = None,
) -> Gateway:
    """Return the application over the two sides, whatever runs them.

    With neither `tokens` nor `signed` ones everybody may call, and operators from this machine
    alone. `hosts` are the
    names under which browsers reach the gateway, beside loopback ones and addresses.
    """
    metrics = Metrics()
    principals = Principals(tokens, signed)
    origins = Origins(hosts, open_to_all=principals.open)
    endpoint = Endpoint(
        metrics,
        principals,
        origins,
        limits or Limits.of_process(),
        rates,
        audit,
        traces,
        tenants=registry.tenants,
    )
    schedules = schedules or NoSchedules()
    processes = processes or NoProcesses()
    publications = publications or NoPublications()
    ports = Ports(
        operations, processes, schedules, publications, browser or NoBrowser(), audit, openness
    )
    middleware = DomainMiddleware(registry)
    around = QueryMiddleware.of(middleware)
    history = HistoryRoutes(registry, histories, around)
    records = CommandRecords()
    scheduling = ScheduleRoutes(registry, schedules, metrics)
    handlers = [
        *CommandRoutes(
            registry, commands, queries, metrics, records, scheduling, middleware
        ).handlers(endpoint),
        *CommandStatus(
            registry, records, queries, views_of(registry), scheduling, outcomes or NoOutcomes()
        ).handlers(endpoint),
        *scheduling.handlers(endpoint),
        *QueryRoutes(registry, queries, history, metrics, around).handlers(endpoint),
        *history.handlers(endpoint),
        *live_handlers(registry, queries, endpoint, around),
        *Health(operations.parts).handlers(endpoint),
        *OperatorRoutes(operations, metrics, audit).handlers(endpoint),
        *ExplainRoutes(registry, operations).handlers(endpoint),
        *ProcessRoutes(processes).handlers(endpoint),
        *PublicationRoutes(publications).handlers(endpoint),
        *console_handlers(registry, ports, endpoint, principals, origins, metrics),
        *openapi_handlers(registry, endpoint, secured=not principals.open),
    ]
    app = Litestar(
        endpoint.ordered(handlers),
        exception_handlers={**HANDLERS, MethodNotAllowedException: on_no_such_method},
        openapi_config=None,
        logging_config=None,
        debug=False,  # or an environment variable could turn on pages with our source
        pdb_on_exception=False,
    )
    return Gateway(app, endpoint, middleware)
