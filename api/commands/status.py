"""`GET /commands/{command_id}`: what became of a command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar.handlers import HTTPRouteHandler

from api.commands.records import CAPACITY, CommandRecord, CommandRecords
from api.commands.routes import concerned
from api.commands.schedules import ScheduleRoutes
from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.headers import id_of_key
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.queries.routes import Queries


class CommandStatus:
    """Answers from the memory of this gateway: its last `CAPACITY` commands."""

    def __init__(
        self,
        records: CommandRecords,
        queries: Queries,
        views: dict[str, list[str]],
        schedules: ScheduleRoutes,
    ) -> None:
        self._schedules = schedules
        self._records = records
        self._queries = queries
        self._views = views

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [endpoint.handler("GET", "/commands/{command_id}", self._answer, Role.READER)]

    async def _answer(self, call: Call) -> Reply:
        given = call.path["command_id"]
        command_id = id_of_key(given)  # an Idempotency-Key is as good as the id it stands for
        known = self._records.get(command_id)
        if known is not None:
            return json_reply({"command_id": command_id, **await self._describe(known)})
        if (scheduled := await self._schedules.about(command_id)) is not None:
            if scheduled["status"] == "accepted":
                scheduled |= await self._reached([scheduled["stream"]], scheduled["position"])
            return json_reply(scheduled)
        raise Problem(
            404, "unknown-command-id", f"none of the last {CAPACITY} commands of this gateway"
        )

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
