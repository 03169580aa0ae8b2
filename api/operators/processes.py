"""Routes for processes: open ones, the history of one, and operators' decisions."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import invalid_field
from api.http.reply import Reply, json_reply
from api.operators.bodies import read_body
from api.queries.routes import known_parameters

MAX_LIMIT = 1000
LIMIT = 100


class Processes(Protocol):
    """See `actors.process_side.ProcessSide`."""

    async def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        """Return the processes that have not ended."""
        ...

    async def schedules(self, limit: int) -> dict[str, Any]:
        """Return the timeouts and commands that are due next."""
        ...

    async def show(self, name: str, key: str) -> dict[str, Any]:
        """Return a process; raise `RayfoldError` if there is none."""
        ...

    async def retry(self, name: str, key: str) -> None:
        """Deliver again to a parked process what it failed on."""
        ...

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        """End a process, with its compensation unless `as_it_is`."""
        ...


class ProcessOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Which process is told again what it is parked on."""

    process: str
    key: str


class ProcessAbort(ProcessOrder):
    """Which process is aborted; `as_it_is`: without its compensation."""

    as_it_is: bool = False


class ProcessRoutes:
    """Handlers over the processes of a stack."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the handlers; all are for operators: states hold what the domain knows."""
        operator = Role.OPERATOR
        return [
            endpoint.handler("GET", "/processes", self._list, operator),
            endpoint.handler("GET", "/processes/{name}/{key}", self._show, operator),
            endpoint.handler("GET", "/operators/schedules", self._schedules, operator),
            endpoint.handler("POST", "/operators/processes/retry", self._retry, operator),
            endpoint.handler("POST", "/operators/processes/abort", self._abort, operator),
        ]

    async def _list(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "process", "parked", "limit")
        parked = given.get("parked", "false")
        if parked not in ("true", "false"):
            raise invalid_field("parked", "must be true or false")
        found = await self._processes.list(
            given.get("process"), parked=parked == "true", limit=_limit(given)
        )
        return json_reply(found)

    async def _show(self, call: Call) -> Reply:
        return json_reply(await self._processes.show(call.path["name"], call.path["key"]))

    async def _schedules(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "limit")
        return json_reply(await self._processes.schedules(_limit(given)))

    async def _retry(self, call: Call) -> Reply:
        wanted = await read_body(call, ProcessOrder)
        await self._processes.retry(wanted.process, wanted.key)
        return json_reply({"process": wanted.process, "key": wanted.key})

    async def _abort(self, call: Call) -> Reply:
        wanted = await read_body(call, ProcessAbort)
        await self._processes.abort(wanted.process, wanted.key, as_it_is=wanted.as_it_is)
        return json_reply({"process": wanted.process, "key": wanted.key})


def _limit(given: dict[str, str]) -> int:
    text = given.get("limit", str(LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LIMIT):
        raise invalid_field("limit", f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)
