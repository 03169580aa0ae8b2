"""How a process actor reaches the writers of aggregates: like gateways, by the owner's table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from actors.write_gateway import WriteGateway
from actors.write_settings import WriteSettings
from rayfold import Registry
from rayfold.runtime.lasting import lasting
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServer, RpcServerFailed

POLL = 5.0
"""Seconds that a request for a newer table stays open at the owner, if there is none."""

LOOK = 0.05
RETRY = 0.2

Routes = dict[str, Any]


class Switchboard:
    """The owner's service for process actors: the shard table, and actors on request."""

    def __init__(
        self,
        routes: Callable[[], tuple[int, Routes]],
        make_dedicated: Callable[[str], Awaitable[None]],
    ) -> None:
        """`routes` returns the owner's epoch and its current table."""
        self._routes = routes
        self._make_dedicated = make_dedicated
        self._rpc = RpcServer(self._answer)
        self._closing = False

    async def address(self, host: str) -> Address:
        """Return the address of the service."""
        return await self._rpc.address(host)

    async def close(self) -> None:
        """Stop answering; open requests end."""
        self._closing = True
        self._rpc.cut()
        await self._rpc.close()

    async def _answer(self, request: tuple[str, Any]) -> Any:
        what, argument = request
        if what == "dedicated":
            await self._make_dedicated(argument)
            return None
        until = time.monotonic() + POLL
        while True:
            epoch, routes = self._routes()
            newer = _mark(epoch, routes) != argument
            if newer or self._closing or time.monotonic() > until:
                return epoch, routes
            await asyncio.sleep(LOOK)


class Reach:
    """One process actor's connections to all writers."""

    def __init__(self, registry: Registry, settings: WriteSettings) -> None:
        self._at: Address | None = None
        self._known = asyncio.Event()
        self._rpc = RpcClient(self._find)
        self._gateway = WriteGateway(registry, settings, make_dedicated=self._make_dedicated)
        self._following: asyncio.Task[None] | None = None
        self.bus = self._gateway.bus

    def start(self) -> None:
        """Start; commands wait until there is a table."""
        self._gateway.start()
        self._following = asyncio.create_task(lasting(self._follow_always, "following the writers"))

    def ask_at(self, address: Address) -> None:
        """Ask the owner at this address from now on."""
        if address != self._at:
            self._at = address
            self._rpc.close()
            self._known.set()

    async def stop(self) -> None:
        """Close the connections."""
        if self._following is not None:
            self._following.cancel()
        self._rpc.close()
        await self._gateway.stop()

    async def _follow_always(self) -> None:
        mark: Any = None
        while True:
            try:
                epoch, routes = await self._rpc.call(("routes", mark))
            except (RpcDisconnected, RpcServerFailed):
                # The current table remains usable as long as its hosts are there.
                await asyncio.sleep(RETRY)
                continue
            mark = _mark(epoch, routes)
            self._gateway.follow(epoch, routes)

    async def _make_dedicated(self, stream: str) -> None:
        try:
            await self._rpc.call(("dedicated", stream))
        except RpcServerFailed as error:  # too many actors are busy: the command waits
            raise RpcDisconnected(str(error)) from error

    async def _find(self) -> Address:
        await self._known.wait()
        assert self._at is not None
        return self._at


def _mark(epoch: int, routes: Routes) -> tuple[Any, ...]:
    """Return a value that changes when the table does."""
    return epoch, routes["version"], tuple(each["actor"] for each in routes["hosts"])
