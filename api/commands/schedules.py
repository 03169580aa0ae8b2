"""Scheduled commands: `Rayfold-Not-Before`, and `DELETE /commands/{command_id}`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Protocol

from litestar.handlers import HTTPRouteHandler

from actors.envelope import Envelope
from actors.errors import NoSuchSchedule
from api.http.auth import Access, Caller, Role
from api.http.endpoint import Call, Endpoint
from api.http.headers import Headers, ids_of, not_before
from api.http.reply import Reply, json_reply
from api.operators.metrics import Metrics
from rayfold import Registry


class Schedules(Protocol):
    """See `actors.schedules.schedules.Schedules`."""

    async def schedule(
        self, envelope: Envelope, not_before: datetime, role: str, permissions: Collection[str]
    ) -> dict[str, Any]:
        """Keep a command until `not_before`, and then send it."""
        ...

    async def cancel(self, command_id: str, principal: str) -> dict[str, Any]:
        """Cancel a scheduled command."""
        ...

    async def about(self, command_id: str) -> dict[str, Any] | None:
        """Return the outcome of a scheduled command."""
        ...


class ScheduleRoutes:
    """Handles requests about scheduled commands."""

    def __init__(self, registry: Registry, schedules: Schedules, metrics: Metrics) -> None:
        self._registry = registry
        self._schedules = schedules
        self._metrics = metrics

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [endpoint.handler("DELETE", "/commands/{command_id}", self._cancel, Role.WRITER)]

    async def take(self, envelope: Envelope, headers: Headers, caller: Caller) -> Reply:
        """Schedule a valid command; answer 202 once it is durably stored."""
        due = not_before(headers)
        assert due is not None
        told = await self._schedules.schedule(
            envelope, due, caller.role.name.lower(), caller.permissions
        )
        self._metrics.accepted(envelope.command)
        return json_reply(told, 202, [(b"location", b"/commands/" + envelope.command_id.encode())])

    async def about(self, command_id: str, tenant: str) -> dict[str, Any] | None:
        """Return the outcome of a tenant's scheduled command; None if it was not scheduled."""
        told = await self._schedules.about(command_id)
        if told is not None and self._registry.tenant_of(told["stream"]) != tenant:
            return None
        return told

    async def _cancel(self, call: Call) -> Reply:
        *_, command_id = ids = ids_of(call.path["command_id"], call.tenant)
        for each in ids:
            if (told := await self.about(each, call.tenant)) is not None:
                command_id, known = each, self._registry.commands.get(told["command"])
                # A caller who may not send the command may not cancel it either.
                call.caller.check(Access(Role.WRITER, known.needs if known else ""))
                break
        try:
            return json_reply(await self._schedules.cancel(command_id, call.principal))
        except NoSuchSchedule as error:  # with the id that the client knows
            raise NoSuchSchedule(call.path["command_id"]) from error
