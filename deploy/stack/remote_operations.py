"""Operations at a gateway: it reports its own view, the controller does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from deploy.stack.operations import Server
from projections.publications.parked_keys import BEFORE_ALL
from rayfold import RayfoldError

SOON = 1.0
"""Seconds that a status waits for the controller."""

QUICK = 10.0
"""Seconds within which the controller must report what it knows."""


class Controller(Protocol):
    """See `ControllerClient`."""

    async def call(self, method: str, timeout: float = ..., **arguments: Any) -> Any:
        """Return the answer; raise `ControllerUnavailable` if there is none."""
        ...


class Reached(Protocol):
    """The write side as a gateway sees it."""

    async def status(self) -> list[dict[str, Any]]:
        """Return its parts."""
        ...


class Monitored(Protocol):
    """The read side as a gateway sees it."""

    def status(self) -> list[dict[str, Any]]:
        """Return its parts."""
        ...


class RemoteOperations:
    """See `api.operators.Operations`: implemented by calls to the current controller."""

    def __init__(
        self,
        writes: Reached,
        monitor: Monitored,
        controller: Controller,
        servers: Sequence[Server] = (),
    ) -> None:
        self._writes = writes
        self._monitor = monitor
        self._controller = controller
        self._servers = servers

    async def parts(self) -> list[dict[str, Any]]:
        """Return the parts that this gateway sees, and further ones of the controller."""
        own = [
            *await self._writes.status(),
            *self._monitor.status(),
            *(server.status() for server in self._servers),
        ]
        part: dict[str, Any] = {"part": "controller", "kind": "controller", "serves": False}
        try:
            theirs = await self._controller.call("operations.parts", SOON)
        except RayfoldError as error:
            return [*own, {**part, "ready": False, "error": str(error)}]
        # The process that restarts parts counts that, unless the gateway has seen it itself.
        counts = {each["part"]: each["restarts"] for each in theirs if "restarts" in each}
        own = [
            {"restarts": counts[each["part"]], **each} if each["part"] in counts else each
            for each in own
        ]
        known = {each["part"] for each in own}
        beside = [each for each in theirs if each["part"] not in known]
        # Parts that only the controller has serve no requests here.
        return [*own, *({**each, "serves": False} for each in beside), {**part, "ready": True}]

    async def scale(self, target: str, count: int) -> None:
        """See `Operations.scale`."""
        await self._controller.call("operations.scale", target=target, count=count)

    async def verify(self) -> list[dict[str, Any]]:
        """See `Operations.verify`."""
        return list(await self._controller.call("operations.verify"))

    async def moves(self) -> list[dict[str, Any]]:
        """See `Operations.moves`."""
        return list(await self._controller.call("operations.moves", SOON))

    async def rebuild(self, view: str, *, accept_parked: bool) -> dict[str, Any]:
        """See `Operations.rebuild`."""
        return dict(
            await self._controller.call(
                "operations.rebuild", QUICK, view=view, accept_parked=accept_parked
            )
        )

    async def rebuilds(self) -> list[dict[str, Any]]:
        """See `Operations.rebuilds`."""
        return list(await self._controller.call("operations.rebuilds", SOON))

    async def parked(
        self, view: str = "", key: str = "", after: Sequence[Any] = (), limit: int = 0
    ) -> list[dict[str, Any]]:
        """See `Operations.parked`."""
        asked = {"view": view, "key": key, "after": list(after), "limit": limit}
        return list(await self._controller.call("operations.parked", QUICK, **asked))

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """See `Operations.parked_event`."""
        found: dict[str, Any] | None = await self._controller.call(
            "operations.parked_event", QUICK, stream=stream, revision=revision
        )
        return found

    async def causality(self, asked: Sequence[str], scan: int) -> dict[str, Any] | None:
        """See `Operations.causality`."""
        found: dict[str, Any] | None = await self._controller.call(
            "operations.causality", asked=list(asked), scan=scan
        )
        return found

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `Operations.replay`."""
        return list(await self._controller.call("operations.replay", view=view, key=key))

    async def delete(self, stream: str, *, tombstone: bool) -> list[str]:
        """See `Operations.delete`."""
        kept_in: list[str] = await self._controller.call(
            "operations.delete", stream=stream, tombstone=tombstone
        )
        return kept_in

    async def forget(self, subjects: Sequence[str]) -> dict[str, Any]:
        """See `Operations.forget`."""
        return dict(
            await self._controller.call("operations.forget", QUICK, subjects=list(subjects))
        )

    async def forgetting(self) -> dict[str, Any]:
        """See `Operations.forgetting`."""
        return dict(await self._controller.call("operations.forgetting", QUICK))

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `Operations.discard`."""
        return list(await self._controller.call("operations.discard", view=view, key=key))


class RemoteProcesses:
    """See `api.operators.Processes`: those that the controller runs."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        """See `Processes.list`."""
        return await self._asked("list", name=name, parked=parked, limit=limit)

    async def schedules(self, limit: int) -> dict[str, Any]:
        """See `Processes.schedules`."""
        return await self._asked("schedules", limit=limit)

    async def show(self, name: str, key: str) -> dict[str, Any]:
        """See `Processes.show`."""
        return await self._asked("show", name=name, key=key)

    async def retry(self, name: str, key: str) -> None:
        """See `Processes.retry`."""
        await self._controller.call("processes.retry", QUICK, name=name, key=key)

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        """See `Processes.abort`."""
        await self._controller.call("processes.abort", QUICK, name=name, key=key, as_it_is=as_it_is)

    async def _asked(self, method: str, **arguments: Any) -> dict[str, Any]:
        return dict(await self._controller.call(f"processes.{method}", QUICK, **arguments))


class RemotePublications:
    """See `api.operators.publications.Publications`: those that the controller runs."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def list(
        self, publication: str = "", after: Sequence[Any] = BEFORE_ALL, limit: int = 0
    ) -> dict[str, Any]:
        """See `Publications.list`."""
        asked = {"publication": publication, "after": list(after), "limit": limit}
        return dict(await self._controller.call("publications.list", QUICK, **asked))

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        """See `Publications.replay`."""
        return dict(
            await self._controller.call(
                "publications.replay", name=name, key=key, after=after, until=until
            )
        )
