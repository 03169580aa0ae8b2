"""What a stack's owner does besides running its parts: it publishes routes, and answers gateways.

`rayfold up` and `rayfold controller` both do this.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from deploy.errors import StartError
from deploy.stack import publishing, ray_runtime, routing, wanted
from deploy.stack.display import Display
from deploy.stack.foundation import Foundation
from deploy.stack.handing_over import HandingOver
from deploy.stack.local_ray import OnRay
from deploy.stack.nodes import placing_of
from deploy.stack.operations import StackOperations
from deploy.stack.owning import Owned
from deploy.stack.parts_left import end_parts, named_parts
from deploy.stack.reaching import check_ray
from deploy.stack.routing import RoutingPublisher
from deploy.stack.settings import Settings
from deploy.stack.sides import process_settings, read_settings, write_settings
from deploy.stack.starting import keep_going
from rayfold.runtime.controller_rpc import ControllerServer, ControllerUnavailable, Methods
from rayfold.runtime.postgres import FAILURES, connected
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together

if TYPE_CHECKING:
    from actors.process_side import ProcessSide
    from actors.write_side import WriteSide
    from projections.outbound_side import OutboundSide
    from projections.read_side import ReadSide
    from projections.settings import ReadSettings

log = logging.getLogger(__name__)

PUBLISHED = 5.0
"""Seconds that a change waits for gateways to learn of it."""


class Government:
    """The owner's parts and its published routes, until the exit stack ends them."""

    writes: WriteSide
    reads: ReadSide
    processes: ProcessSide
    outbound: OutboundSide
    operations: StackOperations

    def __init__(
        self,
        settings: Settings,
        foundation: Foundation,
        owned: Owned,
        *,
        detached: bool,
        stop: Callable[[], None],
        accept_parked: bool = True,
    ) -> None:
        """`detached` parts live on when it ends, unless `down` was requested; then `stop` is called
        to end it. `accept_parked`: see `ReadSettings`.
        """
        self._settings = settings
        self._registry = foundation.registry
        self._eventstore = foundation.eventstore
        self._postgres = foundation.postgres
        self._redis = foundation.redis
        self._servers = foundation.servers
        self._placing = placing_of(settings)
        self._owned = owned
        self._detached = detached
        self._stop = stop
        self._accept_parked = accept_parked
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._server = ControllerServer(self._methods)
        self._controller: dict[str, Any] | None = None
        self._handing_over = HandingOver(self._postgres, owned.identity.domain, owned.before)
        before = owned.before
        self._follows = "read" in before and before.get("domain") != owned.identity.domain
        """Whether another release is serving, and would go on if ours fails to start."""
        self._is_whole = False
        self._going_down = False
        self._parts: list[str] = []
        self._down: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def start(self, parts: AsyncExitStack, display: Display) -> Government:
        """Start the parts, or adopt running ones; publish the routes, and answer gateways.

        Raises:
            WouldPark: the previous release goes on: see `ReadSettings.accept_parked`.
            RayfoldError: a part does not start.
        """
        if self._settings.ray_address is not None:
            await self._listen(parts)
        parts.push_async_callback(self._ended)
        publisher = RoutingPublisher(self._postgres, self._owned.epoch, self.document)
        (self.writes, self.processes), self.reads = await together(
            self._start_writes_and_processes(parts, display, publisher),
            self._start_reads(parts, display),
        )
        if self._follows:
            await self.processes.take_over()
        self.outbound = await self._start_outbound(parts)
        self.operations = await self._operate(parts)
        self._methods |= methods_of(self.writes, self.operations, self.processes, self.outbound)
        self._methods["controller.down"] = self.down
        await self._publish(publisher, parts)
        await self._end_leftovers(publisher, parts)
        return self

    def document(self) -> dict[str, Any]:
        """Return the current document of the routing table.

        Until the read side has started, it is the previous owner's, with our hosts.
        """
        if not self._is_whole:
            ours = {"controller": self._controller, "write": self.writes.routes()}
            return {**self._owned.before, **ours}
        return {
            **self._owned.identity._asdict(),
            "controller": self._controller,
            "detached": self._detached,
            "write": self.writes.routes(),
            "read": self.reads.routes(),
            "previous": self._handing_over.previous,
        }

    async def down(self) -> list[str]:
        """End all parts and this process; return the names of the parts.

        Raises:
            ControllerUnavailable: Ray does not list the actors.
        """
        if (head := ray_runtime.addresses().get("gcs_server")) is not None:
            try:  # Ray's own call would wait silently, or end this process
                await in_thread(lambda: check_ray(head))
            except StartError as error:
                raise ControllerUnavailable(str(error)) from error
        self._parts = await asyncio.to_thread(
            named_parts, self._settings.stack, self._owned.identity.stack
        )
        # Only set now: if Ray does not list them, nothing is ended, also not by a later stop.
        self._going_down = True
        self._stop()
        return await asyncio.shield(self._down)

    async def _listen(self, parts: AsyncExitStack) -> None:
        import ray

        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        at = await self._server.address(host)
        parts.push_async_callback(self._server.close)
        self._controller = {"host": at.host, "port": at.port, "key": at.key.hex()}

    async def _start_writes(self, parts: AsyncExitStack, display: Display) -> WriteSide:
        # Imported here, since it imports Ray, which then reads its environment.
        from actors.host.state.postgres import prepare_states
        from actors.write_side import WriteSide

        with display.part("write side"):
            await prepare_states(self._postgres, self._registry)
            side = await WriteSide.start(
                self._registry,
                write_settings(
                    self._settings,
                    self._owned.identity,
                    self._eventstore,
                    self._postgres,
                    epoch=self._owned.epoch,
                    wanted=self._owned.wanted,
                    detached=self._detached,
                    placing=self._placing,
                ),
                self._owned.before.get("write"),
            )
        parts.push_async_callback(self._end, side)
        return side

    async def _start_writes_and_processes(
        self, parts: AsyncExitStack, display: Display, publisher: RoutingPublisher
    ) -> tuple[WriteSide, ProcessSide]:
        from actors.process_side import ProcessSide

        self.writes = writes = await self._start_writes(parts, display)
        if "read" in self._owned.before:
            # Hosts know our epoch: callers with the old table would have to wait.
            self._methods["write.make_dedicated"] = writes.owner.make_dedicated
            await _published(publisher)
            keep_going(publisher.run, "publishing the routing table", parts)
        side = ProcessSide(
            self._registry,
            process_settings(
                self._settings,
                self._owned.identity,
                self._eventstore,
                self._postgres,
                wanted=self._owned.wanted,
                detached=self._detached,
                placing=self._placing,
            ),
            writes,
        )
        # Stopped before the write side; also after a failed start.
        parts.push_async_callback(side.stop)
        parts.push_async_callback(self._end_if_down, side)
        await side.start(follows=self._follows)
        return writes, side

    async def _start_reads(self, parts: AsyncExitStack, display: Display) -> ReadSide:
        from projections.read_side import ReadSide

        with display.part("read side"):
            side = await ReadSide.start(self._registry, self._read_settings())
        parts.push_async_callback(self._end, side)
        return side

    async def _start_outbound(self, parts: AsyncExitStack) -> OutboundSide:
        from projections.outbound_side import OutboundSide

        side = OutboundSide(
            self._registry, self._read_settings(), publishing.configured(self._settings)
        )
        parts.push_async_callback(side.stop)  # after a failed start too
        parts.push_async_callback(self._end_if_down, side)
        await side.start()
        return side

    def _read_settings(self) -> ReadSettings:
        return read_settings(
            self._settings,
            self._registry,
            self._owned.identity,
            self._eventstore,
            self._postgres,
            redis=self._redis,
            wanted=self._owned.wanted,
            detached=self._detached,
            placing=self._placing,
            accept_parked=self._accept_parked,
        )

    @property
    def sides(self) -> list[OnRay]:
        """Return the sides, which have actors."""
        return [self.writes, self.reads, self.processes, self.outbound]

    async def _operate(self, parts: AsyncExitStack) -> StackOperations:
        """Return the operators' methods; until `parts` end, continue forgetting persons."""
        # Imported here for the same reason as the sides.
        from deploy.stack.causality import Causality
        from deploy.stack.forgetting import Forgetting

        forgetting = Forgetting(
            self._registry,
            self._postgres,
            self.writes,
            self.processes,
            self.reads.rebuilds,
            self.reads.log,
            lambda: not self._handing_over.previous,
        )
        await forgetting.begin()
        if self._registry.is_personal:
            keep_going(forgetting.run, "forgetting", parts)
        causality = Causality(
            self._registry, self.reads.log, self.writes, self.reads.applications, self.outbound
        )
        return StackOperations(
            self.writes,
            self.reads,
            self.processes,
            self.outbound,
            self._servers,
            partial(wanted.note, self._postgres),
            causality,
            forgetting,
        )

    async def _publish(self, publisher: RoutingPublisher, parts: AsyncExitStack) -> None:
        """Publish that everything is there, and each change from now on."""
        self._is_whole = True
        published = partial(_published, publisher)
        await published()
        self.writes.owner.published = published
        self.reads.placements.on_change = published
        # Otherwise this has been going on since the hosts were there.
        if "read" not in self._owned.before:
            keep_going(publisher.run, "publishing the routing table", parts)

    async def _end_leftovers(self, publisher: RoutingPublisher, parts: AsyncExitStack) -> None:
        """End what the previous owner has left; of another release, once no gateway uses it."""
        if not self._handing_over.previous:
            await self.reads.end_leftovers()
            return
        handing_over = partial(
            self._handing_over.run,
            self.reads.end_leftovers,
            self.writes.owner.renew,
            publisher.changed,
        )
        keep_going(handing_over, "handing over", parts)

    async def _end_if_down(self, side: ProcessSide | OutboundSide) -> None:
        if self._going_down:
            await side.end()

    async def _end(self, side: WriteSide | ReadSide) -> None:
        await (side.end() if self._going_down else side.stop())

    async def _ended(self) -> None:
        """If all was to go down, end the remaining parts and report them."""
        if not self._going_down:
            self._down.cancel()
            return
        await asyncio.to_thread(end_parts, self._settings.stack, self._owned.identity.stack)
        with suppress(*FAILURES):
            await note_down(self._postgres, self._owned.epoch, self._owned.identity._asdict())
        self._down.set_result(self._parts)


async def note_down(postgres: str, epoch: int, identity: dict[str, str]) -> None:
    """Publish that nothing runs, because the stack was taken down.

    Raises:
        FAILURES: Postgres does not answer.
    """
    async with connected(postgres) as connection:
        await routing.publish(connection, epoch, {**identity, "down": True})


def methods_of(
    writes: WriteSide,
    operations: StackOperations,
    processes: ProcessSide,
    outbound: OutboundSide,
) -> Methods:
    """Return the methods that gateways may call, by name."""
    for_operators = {
        f"operations.{name}": method
        for name, method in inspect.getmembers(operations, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    return for_operators | {
        "publications.list": outbound.publications.list,
        "publications.replay": outbound.publications.replay,
        "processes.list": processes.list,
        "processes.schedules": processes.schedules,
        "processes.show": processes.show,
        "processes.retry": processes.retry,
        "processes.abort": processes.abort,
        "write.make_dedicated": writes.owner.make_dedicated,
        "write.outcome": writes.outcome,
    }


async def _published(publisher: RoutingPublisher) -> None:
    """Wait until gateways can know the current routes; without Postgres, go on at once."""
    try:
        async with asyncio.timeout(PUBLISHED):
            await publisher.publish()
    except FAILURES as error:
        log.info("the routing table is not published", extra={"error": repr(error)})
