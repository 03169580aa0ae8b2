"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Litestar

from api.commands.records import CommandRecords
from api.commands.routes import CommandRoutes, Commands, views_of
from api.commands.status import CommandStatus
from api.http.auth import Principals
from api.http.endpoint import Endpoint
from api.http.problems import HANDLERS
from api.openapi.routes import openapi_handlers
from api.operators.metrics import Metrics
from api.operators.routes import Operations, OperatorRoutes
from api.queries.history import Histories, HistoryRoutes
from api.queries.live import live_handlers
from api.queries.routes import Queries, QueryRoutes
from rayfold import Registry

MAX_BODY = 1024 * 1024
"""Bytes of a request's body."""


def create_app(
    registry: Registry,
    commands: Commands,
    queries: Queries,
    histories: Histories,
    operations: Operations,
    *,
    max_body: int = MAX_BODY,
    tokens: Mapping[str, str] | None = None,
) -> Litestar:
    """Return the application over the two sides, whatever runs them.

    `tokens` names callers by their bearer token; with none, everybody may call.
    """
    metrics = Metrics()
    endpoint = Endpoint(metrics, Principals(tokens or {}), max_body)
    past = HistoryRoutes(registry, histories)
    records = CommandRecords()
    app = Litestar(
        [
            *CommandRoutes(registry, commands, queries, metrics, records).handlers(endpoint),
            *CommandStatus(records, queries, views_of(registry)).handlers(endpoint),
            *QueryRoutes(registry, queries, past, metrics).handlers(endpoint),
            *past.handlers(endpoint),
            *live_handlers(registry, queries, endpoint),
            *OperatorRoutes(operations, metrics).handlers(endpoint),
            *openapi_handlers(registry, endpoint, secured=bool(tokens)),
        ],
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
        debug=False,  # or an environment variable could turn on pages with our source
        pdb_on_exception=False,
    )
    app.state.closing = endpoint.closing
    app.state.recent_errors = endpoint.recent_errors
    return app
