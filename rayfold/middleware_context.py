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
    """A client, earlier: `Rayfold-Not-Before`. Who asked is told as it was then."""


class Reading(StrEnum):
    """What of a row, or of rows, is asked for."""

    NOW = "now"
    """As it is: `GET /orders/1`."""
    LIVE = "live"
    """As it changes, `…/live`: asked when a client begins, and again for each change."""
    AS_OF = "as-of"
    """As it was: `?as_of=…`."""
    HISTORY = "history"
    """Its events: `…/history`."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Who asks. Without any token of a stack that is everybody: `anonymous`, an operator.

    - `role`: `reader`, `writer` or `operator`; `stack` for what the domain's processes send.
    - `permissions`: those of the token; see `may`.
    - `tenant`: whose commands and queries these are, on a stack that serves tenants.
    - `headers`: of the request, their names in lower case; none of what no request asks for.
      `Authorization` and `Cookie` are left out: they are secrets, and logs are not.
    """

    principal: str = "anonymous"
    role: str = "operator"
    permissions: Collection[str] = frozenset()
    tenant: str = ""
    correlation_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def may(self, permission: str) -> bool:
        """Tell whether who asks has a permission. Operators and the stack have all of them."""
        return self.role in ("operator", "stack") or permission in self.permissions


@dataclass(frozen=True, kw_only=True)
class CommandContext(Context):
    """Of one attempt to send a command; a command that is sent again has the same `command_id`.

    `stream` is that of the aggregate that decides, of the one that leads if there are several.
    """

    command_id: UUID = field(default_factory=uuid4)
    stream: str = ""
    origin: Origin = Origin.HTTP
    causation_id: str = ""
    expected_revision: int | None = None


@dataclass(frozen=True, kw_only=True)
class QueryContext(Context):
    """Of one query as a client asked it. `store` is the one that it wants; empty for any."""

    reading: Reading = Reading.NOW
    store: str = ""
