"""`GET /commands/{command_id}`: what became of a command."""

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
from api.http.headers import id_of_key
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.queries.routes import Queries
from rayfold import Receipt, Refused


class Outcomes(Protocol):
    """What the writers remember; see `WriteSide.outcome`."""

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and what became of it, if a writer remembers it."""
        ...


class NoOutcomes:
    """Writers that remember nothing."""

    async def outcome(self, command_id: str) -> None:
        """See `Outcomes.outcome`."""
        return


class CommandStatus:
    """Answers from the memory of this gateway: its last `CAPACITY` commands.

    What another gateway has taken, or what had no answer here, the writers are asked for: they too
    remember their last ones, so that it does not matter which gateway is asked.
    """

    def __init__(
        self,
        records: CommandRecords,
        queries: Queries,
        views: dict[str, list[str]],
        schedules: ScheduleRoutes,
        outcomes: Outcomes,
    ) -> None:
        self._schedules = schedules
        self._records = records
        self._outcomes = outcomes
        self._queries = queries
        self._views = views

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [endpoint.handler("GET", "/commands/{command_id}", self._answer, Role.READER)]

    async def _answer(self, call: Call) -> Reply:
        given = call.path["command_id"]
        command_id = id_of_key(given)  # an Idempotency-Key is as good as the id it stands for
        known = self._records.get(command_id)
        if known is None or not (known.receipt or known.rejection):
            known = await self._of_others(command_id) or known
        if known is not None:
            return json_reply({"command_id": command_id, **await self._describe(known)})
        if (scheduled := await self._schedules.about(command_id)) is not None:
            if scheduled["status"] == "accepted":
                scheduled |= await self._reached([scheduled["stream"]], scheduled["position"])
            return json_reply(scheduled)
        raise Problem(
            404,
            "unknown-command-id",
            f"none of the last {CAPACITY} commands of this gateway, nor of any writer; "
            "sent again under the same key it counts once",
        )

    async def _of_others(self, command_id: str) -> CommandRecord | None:
        found = await self._outcomes.outcome(command_id)
        if found is None:
            return None
        stream, outcome = found
        if isinstance(outcome, Done):
            receipt = Receipt(
                command_id=UUID(command_id),
                stream=stream,
                revision=outcome.revision,
                position=outcome.position,
                revisions=outcome.revisions or {},
            )
            record = CommandRecord(receipt)
            self._records.settle(command_id, record)
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
