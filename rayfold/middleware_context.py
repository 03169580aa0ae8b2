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
    """A command that a client has scheduled, by `Rayfold-Not-Before`. The caller is given as it was
    then."""


class Reading(StrEnum):
    """What a query asks about rows."""

    NOW = "now"
    """The current state: `GET /orders/1`."""
    LIVE = "live"
    """The live stream, `…/live`: asked when a client begins, and again for each change."""
    AS_OF = "as-of"
    """An earlier state: `?as_of=…`."""
    HISTORY = "history"
    """The events: `…/history`."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The caller. On a stack without tokens, every caller is `anonymous`, an operator.

    - `role`: `reader`, `writer` or `operator`; `stack` for commands of the domain's processes.
    - `permissions`: those of the token; see `may`.
    - `tenant`: the tenant of the command or query, on a stack that serves tenants.
    - `headers`: those of the request, with names in lower case; empty if there was no request.
      `Authorization` and `Cookie` are left out: they are secrets, and might end up in a log.
    """

    principal: str = "anonymous"
    role: str = "operator"
    permissions: Collection[str] = frozenset()
    tenant: str = ""
    correlation_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def may(self, permission: str) -> bool:
        """Tell whether the caller has a permission. Operators and the stack have all."""
        return self.role in ("operator", "stack") or permission in self.permissions


@dataclass(frozen=True, kw_only=True)
class CommandContext(Context):
    """The context of one attempt to send a command. A repeated command has the same `command_id`.

    `stream` is that of the aggregate that decides, or of the leading one if there are several.
    """

    command_id: UUID = field(default_factory=uuid4)
    stream: str = ""
    origin: Origin = Origin.HTTP
    causation_id: str = ""
    expected_revision: int | None = None


@dataclass(frozen=True, kw_only=True)
class QueryContext(Context):
    """The context of one query of a client. `store` is the store that it asks for; empty: any."""

    reading: Reading = Reading.NOW
    store: str = ""
