"""`GET /commands/{command_id}`: the outcome of a command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from litestar.handlers import HTTPRouteHandler

from actors.envelope import Done, Outcome
from actors.errors import RevisionMismatch
from api.commands.records import CAPACITY, CommandRecord, CommandRecords, Rejection
from api.commands.routes import concerned
from api.commands.schedules import ScheduleRoutes
from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.headers import ids_of
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.queries.routes import Queries
from rayfold import Receipt, Refused, Registry
from rayfold.tenants import within


class Outcomes(Protocol):
    """The outcomes that the writers remember; see `WriteSide.outcome`."""

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and outcome, if a writer remembers it."""
        ...


class CommandStatus:
    """Answers from the memory of this gateway, which has its last `CAPACITY` commands.

    For a command that another gateway took, or that got no answer here, it asks the writers. They
    remember their last commands too, so it does not matter which gateway a client asks.
    """

    def __init__(
        self,
        registry: Registry,
        records: CommandRecords,
        queries: Queries,
        views: dict[str, list[str]],
        schedules: ScheduleRoutes,
        outcomes: Outcomes,
    ) -> None:
        self._registry = registry
        self._schedules = schedules
        self._records = records
        self._outcomes = outcomes
        self._queries = queries
        self._views = views

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [endpoint.handler("GET", "/commands/{command_id}", self._answer, Role.READER)]

    async def _answer(self, call: Call) -> Reply:
        # The client may give an Idempotency-Key in place of the id.
        for command_id in ids_of(call.path["command_id"], call.tenant):
            if (told := await self._told(command_id, call.tenant)) is not None:
                return json_reply(told)
        raise Problem(
            404,
            "unknown-command-id",
            f"it is not among the last {CAPACITY} commands of this gateway, and no writer knows it;"
            " it may be sent again with the same key, and counts once",
        )

    async def _told(self, command_id: str, tenant: str) -> dict[str, Any] | None:
        known = self._records.get(within(tenant, command_id))
        if known is None or not (known.receipt or known.rejection):
            known = await self._of_others(command_id, tenant) or known
        if known is not None:
            return {"command_id": command_id, **await self._describe(known)}
        scheduled = await self._schedules.about(command_id, tenant)
        if scheduled is not None and scheduled["status"] == "accepted":
            streams = scheduled.get("revisions") or [scheduled["stream"]]
            scheduled |= await self._reached(streams, scheduled["position"])
        return scheduled

    async def _of_others(self, command_id: str, tenant: str) -> CommandRecord | None:
        found = await self._outcomes.outcome(command_id)
        if found is None:
            return None
        stream, outcome = found
        if self._registry.tenant_of(stream) != tenant:
            return None
        if isinstance(outcome, Done):
            receipt = Receipt(
                command_id=UUID(command_id),
                stream=stream,
                revision=outcome.revision,
                position=outcome.position,
                revisions=outcome.revisions or {},
            )
            record = CommandRecord(receipt)
            self._records.settle(within(tenant, command_id), record)
            return record
        if isinstance(outcome, Refused):
            return CommandRecord(rejection=Rejection(outcome.rule, outcome.detail))
        if isinstance(outcome, RevisionMismatch):
            return CommandRecord(rejection=Rejection("revision-mismatch", str(outcome)))
        return CommandRecord(error=str(outcome or ""))

    async def _describe(self, known: CommandRecord) -> dict[str, Any]:
        if known.rejection is not None:
            return {"status": "rejected", **known.rejection._asdict()}
        receipt = known.receipt
        if receipt is None:
            return {"status": "processing", **({"detail": known.error} if known.error else {})}
        return {
            **await self._reached(receipt.revisions or [receipt.stream], receipt.position),
            "stream": receipt.stream,
            "revision": receipt.revision,
            "position": receipt.position,
            **({"revisions": receipt.revisions} if receipt.revisions else {}),
        }

    async def _reached(self, streams: Iterable[str], position: int) -> dict[str, Any]:
        behind = await self._queries.reached(concerned(self._views, streams), position, 0)
        return {"status": "processing" if behind else "projected", "behind": behind}
