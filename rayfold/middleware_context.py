"""What middleware knows about the caller: who asks, and from where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid4


class Origin(StrEnum):
    """Where a command comes from."""

    HTTP = "http"
    """A client of a gateway."""
    PROCESS = "process"
    """A process manager of the domain; the principal is `process:NAME`."""
    SCHEDULE = "schedule"
    """A client's earlier request with `Rayfold-Not-Before`; the client's data is as it was then."""


class Reading(StrEnum):
    """What a query asks of a row or of rows."""

    NOW = "now"
    """The present state: `GET /orders/1`."""
    LIVE = "live"
    """The live stream, `…/live`: queried when a client begins, and again for each change."""
    AS_OF = "as-of"
    """A past state: `?as_of=…`."""
    HISTORY = "history"
    """The events: `…/history`."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Who asks. On a stack without tokens, everybody is `anonymous` and an operator.

    - `role`: `reader`, `writer` or `operator`; `stack` for commands of the domain's processes.
    - `permissions`: those of the token; see `may`.
    - `tenant`: the tenant of the command or query, on a stack that serves tenants.
    - `headers`: those of the HTTP request, with names in lower case; empty if there is none.
      `Authorization` and `Cookie` are left out: they are secrets, and must not get into logs.
    """

    principal: str = "anonymous"
    role: str = "operator"
    permissions: Collection[str] = frozenset()
    tenant: str = ""
    correlation_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def may(self, permission: str) -> bool:
        """Return whether the client has a permission. Operators and the stack have all of them."""
        return self.role in ("operator", "stack") or permission in self.permissions


@dataclass(frozen=True, kw_only=True)
class CommandContext(Context):
    """The context of one attempt to send a command; a repeated attempt has the same `command_id`.

    `stream` is the stream of the aggregate that decides; of the leading one if there are several.
    """

    command_id: UUID = field(default_factory=uuid4)
    stream: str = ""
    origin: Origin = Origin.HTTP
    causation_id: str = ""
    expected_revision: int | None = None


@dataclass(frozen=True, kw_only=True)
class QueryContext(Context):
    """The context of one query of a client. `store` is the requested store; empty for any."""

    reading: Reading = Reading.NOW
    store: str = ""
