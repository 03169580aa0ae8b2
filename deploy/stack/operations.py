"""Operations on a running stack, over both sides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from projections.errors import UnknownTarget
from projections.parked_pages import BEFORE_ALL, Asked

if TYPE_CHECKING:  # they import Ray, which then reads its environment
    from actors.process_side import ProcessSide
    from actors.write_side import WriteSide
    from deploy.stack.causality import Causality
    from deploy.stack.forgetting import Forgetting
    from projections.outbound_side import OutboundSide
    from projections.read_side import ReadSide


class Server(Protocol):
    """A server that everything depends on: the event store, Postgres, Ray."""

    def status(self) -> dict[str, Any]:
        """Return its status as a part of the stack."""
        ...


class StackOperations:
    """See `api.operators.Operations`."""

    def __init__(
        self,
        writes: WriteSide,
        reads: ReadSide,
        processes: ProcessSide,
        outbound: OutboundSide,
        servers: Sequence[Server],
        note: Callable[[str, int], Awaitable[None]],
        causality: Causality,
        forgetting: Forgetting,
    ) -> None:
        """`note` stores scaled numbers beyond a restart."""
        self._causality = causality
        self._forgetting = forgetting
        self._note = note
        self._writes = writes
        self._processes = processes
        self._outbound = outbound
        self._reads = reads
        self._servers = servers

    async def parts(self) -> list[dict[str, Any]]:
        """See `Operations.parts`."""
        servers = [server.status() for server in self._servers]
        return [
            *await self._writes.status(),
            *await self._processes.status(),
            *self._reads.monitor.status(),
            *self._outbound.status(),
            *servers,
        ]

    async def scale(self, target: str, count: int) -> None:
        """See `Operations.scale`."""
        if target == "write":
            await self._writes.scale(count)
        elif target.partition(":")[0] == "process":
            await self._processes.scale(target, count)
        elif target.startswith("reactor:"):
            await self._outbound.reactors.scale(target.partition(":")[2], count)
        else:
            await self._reads.scaling.scale(target, count)
        await self._note(target, count)

    async def verify(self) -> list[dict[str, Any]]:
        """See `Operations.verify`."""
        return [*await self._reads.verification.verify(), *await self._writes.verify()]

    async def moves(self) -> list[dict[str, Any]]:
        """See `Operations.moves`."""
        return self._reads.scaling.moves()

    async def rebuild(self, view: str, *, accept_parked: bool = False) -> dict[str, Any]:
        """See `Operations.rebuild`; a gateway of an older release may not know all of it."""
        return self._reads.rebuilds.begin(view, accept_parked=accept_parked)

    async def rebuilds(self) -> list[dict[str, Any]]:
        """See `Operations.rebuilds`."""
        return self._reads.rebuilds.status()

    async def parked(
        self, view: str = "", key: str = "", after: Sequence[Any] = (), limit: int = 0
    ) -> list[dict[str, Any]]:
        """See `Operations.parked`."""
        position, *texts = after or BEFORE_ALL
        asked = Asked(view, key, (position, *texts), limit)
        reads, reactors = self._reads.parked_events, self._outbound.reactors
        return asked.page([*await reads.parked(asked), *await reactors.parked(asked)])

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """See `Operations.parked_event`."""
        return await self._reads.parked_events.event(stream, revision)

    async def causality(self, asked: Sequence[str], scan: int) -> dict[str, Any] | None:
        """See `Operations.causality`."""
        return await self._causality.of(asked, scan)

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `Operations.replay`."""
        if self._outbound.reactors.has(view):
            return await self._outbound.reactors.replay(view, key)
        return await self._reads.parked_events.replay(view, key)

    async def delete(self, stream: str, *, tombstone: bool) -> list[str]:
        """See `Operations.delete`."""
        if not await self._writes.delete_stream(stream, tombstone=tombstone):
            raise UnknownTarget(f"there is no {stream} on the log, so nothing is deleted")
        return self._reads.views_that_keep(stream)

    async def forget(self, subjects: Sequence[str]) -> dict[str, Any]:
        """See `Operations.forget`."""
        return await self._forgetting.forget(subjects)

    async def forgetting(self) -> dict[str, Any]:
        """See `Operations.forgetting`."""
        return await self._forgetting.status()

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `Operations.discard`."""
        if self._outbound.reactors.has(view):
            return await self._outbound.reactors.discard(view, key)
        return await self._reads.parked_events.discard(view, key)
