"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Litestar

from api.auth import Principals
from api.command_status import CommandStatus
from api.commands import CommandRoutes, Commands, views_of
from api.gate import Gate
from api.live import live_handlers
from api.metrics import Metrics
from api.openapi import openapi_handler
from api.operators import Operations, OperatorRoutes
from api.outcomes import Outcomes
from api.past import Histories, Past
from api.problems import HANDLERS
from api.queries import Queries, QueryRoutes
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
    gate = Gate(metrics, Principals(tokens or {}), max_body)
    past = Past(registry, histories)
    outcomes = Outcomes()
    app = Litestar(
        [
            *CommandRoutes(registry, commands, queries, metrics, outcomes).handlers(gate),
            *CommandStatus(outcomes, queries, views_of(registry)).handlers(gate),
            *QueryRoutes(registry, queries, past, metrics).handlers(gate),
            *past.handlers(gate),
            *live_handlers(registry, queries, gate),
            *OperatorRoutes(operations, metrics).handlers(gate),
            openapi_handler(registry, gate),
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
