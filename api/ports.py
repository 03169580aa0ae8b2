"""The ports that the gateway needs: the write side, the read side, and their operations."""

from __future__ import annotations

from dataclasses import dataclass

from api.commands.routes import Commands
from api.commands.schedules import Schedules
from api.commands.status import Outcomes
from api.console.log import Browser
from api.console.sessions import KeptSessions
from api.http.endpoint import Audits
from api.operators.processes import Processes
from api.operators.publications import Publications
from api.operators.routes import Operations
from api.queries.history import Histories
from api.queries.routes import Queries


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The gateway's ports; each is for some of the routes."""

    commands: Commands
    queries: Queries
    histories: Histories
    operations: Operations
    processes: Processes
    schedules: Schedules
    publications: Publications
    outcomes: Outcomes
    browser: Browser
    audit: Audits
    sessions: KeptSessions
