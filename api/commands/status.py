"""`GET /commands/{command_id}`: what became of a command."""

from __future__ import annotations

from typing import Any

from litestar.handlers import HTTPRouteHandler

from api.commands.records import CAPACITY, CommandRecord, CommandRecords
from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.headers import id_of_key
from api.http.problems import Problem
from api.http.reply import Reply, json_reply
from api.queries.routes import Queries
from rayfold.registry import AggregateType


class CommandStatus:
    """Answers from the memory of this gateway: its last `CAPACITY` commands."""

    def __init__(
        self, records: CommandRecords, queries: Queries, views: dict[AggregateType, list[str]]
    ) -> None:
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
        raise Problem(
            404, "unknown-command-id", f"none of the last {CAPACITY} commands of this gateway"
        )

    async def _describe(self, known: CommandRecord) -> dict[str, Any]:
        if known.rejection is not None:
            return {"status": "rejected", **known.rejection._asdict()}
        receipt = known.receipt
        if receipt is None:
            return {"status": "processing", **({"detail": known.error} if known.error else {})}
        views = self._views[known.aggregate]
        behind = await self._queries.reached(views, receipt.position, 0)
        return {
            "status": "processing" if behind else "projected",
            "behind": behind,
            "stream": receipt.stream,
            "revision": receipt.revision,
            "position": receipt.position,
        }
