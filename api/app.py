"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Litestar

from api.commands.outcomes import Outcomes
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
    """The application over the two sides, whatever runs them.

    `tokens` names callers by their bearer token; with none, everybody may call.
    """
    metrics = Metrics()
    gate = Endpoint(metrics, Principals(tokens or {}), max_body)
    past = HistoryRoutes(registry, histories)
    outcomes = Outcomes()
    app = Litestar(
        [
            *CommandRoutes(registry, commands, queries, metrics, outcomes).handlers(gate),
            *CommandStatus(outcomes, queries, views_of(registry)).handlers(gate),
            *QueryRoutes(registry, queries, past, metrics).handlers(gate),
            *past.handlers(gate),
            *live_handlers(registry, queries, gate),
            *OperatorRoutes(operations, metrics).handlers(gate),
            *openapi_handlers(registry, gate, secured=bool(tokens)),
        ],
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
        debug=False,  # or an environment variable could turn on pages with our source
        pdb_on_exception=False,
    )
    app.state.closing = gate.closing
    app.state.troubles = gate.troubles
    return app
