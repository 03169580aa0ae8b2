"""A gateway over fakes, reached without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import httpx
import pytest

from actors.schedules.schedules import Schedules
from api.app import create_app
from api.http.admission import Admission
from api.ports import Ports
from eventstore.memory import MemoryLog
from rayfold import Registry
from tests.unit.api.fakes import (
    FakeAudit,
    FakeBrowser,
    FakeCommands,
    FakeHistories,
    FakeOperations,
    FakeOutcomes,
    FakeProcesses,
    FakePublications,
    FakeQueries,
    FakeSessions,
)


@dataclass
class Gateway:
    """The application, its fakes, and a client."""

    registry: Registry
    commands: FakeCommands = field(default_factory=FakeCommands)
    queries: FakeQueries = field(default_factory=FakeQueries)
    histories: FakeHistories = field(default_factory=FakeHistories)
    operations: FakeOperations = field(default_factory=FakeOperations)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = {
            "processes": FakeProcesses(),
            "schedules": Schedules(MemoryLog()),
            "publications": FakePublications(),
            "outcomes": FakeOutcomes(),
            "browser": FakeBrowser(),
            "audit": FakeAudit(),
            "sessions": FakeSessions(),
            **self.options,
        }

        def of(part: Callable[..., Any]) -> dict[str, Any]:
            names = signature(part).parameters.keys() & options.keys()
            return {name: options.pop(name) for name in names}

        self.app = create_app(
            self.registry,
            Ports(
                commands=self.commands,
                queries=self.queries,
                histories=self.histories,
                operations=self.operations,
                **of(Ports),
            ),
            Admission(**of(Admission)),
            **options,
        )
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")
        # httpx adds headers of its own, and a client need not send any.
        self.http.headers.clear()


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Return the reference domain."""
    return Registry.load("domain")


@pytest.fixture
async def gateway(registry: Registry) -> AsyncIterator[Gateway]:
    """Return a gateway of its own for each test."""
    made = Gateway(registry)
    async with made.http:
        yield made
