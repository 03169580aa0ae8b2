"""What the gateway asks, whatever runs it: the two sides, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.commands.routes import Commands
from api.commands.schedules import NoSchedules, Schedules
from api.commands.status import NoOutcomes, Outcomes
from api.console.log import Browser, NoBrowser
from api.http.endpoint import Audits
from api.operators.processes import NoProcesses, Processes
from api.operators.publications import NoPublications, Publications
from api.operators.routes import Operations
from api.queries.history import Histories
from api.queries.routes import Queries


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Without one of the optional ones, the gateway answers that it has none of these."""

    commands: Commands
    queries: Queries
    histories: Histories
    operations: Operations
    processes: Processes = field(default_factory=NoProcesses)
    schedules: Schedules = field(default_factory=NoSchedules)
    publications: Publications = field(default_factory=NoPublications)
    outcomes: Outcomes = field(default_factory=NoOutcomes)
    browser: Browser = field(default_factory=NoBrowser)
    audit: Audits | None = None
