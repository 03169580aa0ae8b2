"""The gateway: every route of a domain, and those of its operators."""

from __future__ import annotations

from litestar import Litestar

from api.commands import CommandRoutes, Commands
from api.metrics import Metrics
from api.openapi import openapi_handler
from api.operators import Operations, operator_handlers
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
) -> Litestar:
    """The application over the two sides, whatever runs them."""
    metrics = Metrics()
    past = Past(registry, histories)
    return Litestar(
        [
            *CommandRoutes(registry, commands, queries, metrics).handlers(),
            *QueryRoutes(registry, queries, past, metrics).handlers(),
            *past.handlers(),
            *operator_handlers(operations, metrics),
            openapi_handler(registry),
        ],
        exception_handlers=HANDLERS,
        request_max_body_size=max_body,
        openapi_config=None,
        logging_config=None,
    )
