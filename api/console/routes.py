"""The operators' console: all its pages, over the same ports as the operators' routes."""

from __future__ import annotations

from litestar.handlers import HTTPRouteHandler

from api.console.access import AccessPage, Openness
from api.console.assets import Assets
from api.console.audit import AuditPage
from api.console.causality import CausalityPage
from api.console.forgetting import ForgettingForm
from api.console.forms import Console
from api.console.front import ConsoleFront
from api.console.log import LogPages
from api.console.overview import Overview
from api.console.parked import ParkedEvents
from api.console.processes import ProcessPages
from api.console.publications import PublicationPages
from api.console.sessions import Sessions
from api.console.signing import Signing
from api.console.templates import Templates
from api.console.views import Views
from api.console.watch import Watch
from api.http.auth import Principals
from api.http.endpoint import Endpoint
from api.http.origin import Origins
from api.operators.metrics import Metrics
from api.ports import Ports
from rayfold import Registry

NAVIGATION = (
    ("/console", "Overview"),
    ("/console/views", "Views"),
    ("/console/parked", "Parked events"),
    ("/console/log", "Log"),
    ("/console/aggregates", "Aggregates"),
    ("/console/processes", "Processes"),
    ("/console/schedules", "Schedules"),
    ("/console/publications", "Publications"),
    ("/console/causality", "Causality"),
    ("/console/audit", "Audit"),
    ("/console/access", "Access"),
)


def console_handlers(
    registry: Registry,
    ports: Ports,
    openness: Openness,
    endpoint: Endpoint,
    principals: Principals,
    origins: Origins,
    metrics: Metrics,
) -> list[HTTPRouteHandler]:
    """Return the handlers of every page."""
    assets = Assets()
    templates = Templates(asset=assets.url, navigation=NAVIGATION)
    front = ConsoleFront(templates, principals, origins, Sessions(ports.sessions))
    console = Console(endpoint, front)
    operations = ports.operations
    watch = Watch(operations, metrics)
    return [
        *assets.handlers(endpoint),
        *Signing(front).handlers(endpoint),
        *Overview(registry, operations, watch, templates, endpoint.recent_errors).handlers(console),
        *Views(registry, operations, watch).handlers(console),
        *ParkedEvents(operations).handlers(console),
        *LogPages(registry, ports.browser, operations).handlers(console),
        *ProcessPages(registry, ports.processes, ports.schedules).handlers(console),
        *PublicationPages(ports.publications).handlers(console),
        *CausalityPage(operations).handlers(console),
        *AuditPage(ports.audit).handlers(console),
        *ForgettingForm(operations).handlers(console),
        *AccessPage(openness).handlers(console),
    ]
