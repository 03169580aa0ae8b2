"""How a process actor reaches the writers of aggregates: as gateways do, by the owner's table."""

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
"""Seconds that a question for a newer table stays with the owner, if there is none."""

LOOK = 0.05
RETRY = 0.2

Routes = dict[str, Any]


class Switchboard:
    """What the owner tells process actors: who has which shards; and makes what they ask for."""

    def __init__(
        self,
        routes: Callable[[], tuple[int, Routes]],
        make_dedicated: Callable[[str], Awaitable[None]],
    ) -> None:
        """`routes` gives the owner's epoch, and its table as it is now."""
        self._routes = routes
        self._make_dedicated = make_dedicated
        self._rpc = RpcServer(self._answer)
        self._closing = False

    async def address(self, host: str) -> Address:
        """Return where it is asked."""
        return await self._rpc.address(host)

    async def close(self) -> None:
        """Answer no more; nobody's question stays."""
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
    """The ways of one process actor to all writers."""

    def __init__(self, registry: Registry, settings: WriteSettings) -> None:
        self._at: Address | None = None
        self._known = asyncio.Event()
        self._rpc = RpcClient(self._find)
        self._gateway = WriteGateway(registry, settings, make_dedicated=self._make_dedicated)
        self._following: asyncio.Task[None] | None = None
        self.bus = self._gateway.bus

    def start(self) -> None:
        """Begin; commands wait until it is known where they go."""
        self._gateway.start()
        self._following = asyncio.create_task(lasting(self._follow_always, "following the writers"))

    def ask_at(self, address: Address) -> None:
        """Ask the owner there from now on."""
        if address != self._at:
            self._at = address
            self._rpc.close()
            self._known.set()

    async def stop(self) -> None:
        """Close the ways."""
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
                # The table that is followed is good as long as its hosts are.
                await asyncio.sleep(RETRY)
                continue
            mark = _mark(epoch, routes)
            self._gateway.follow(epoch, routes)

    async def _make_dedicated(self, stream: str) -> None:
        try:
            await self._rpc.call(("dedicated", stream))
        except RpcServerFailed as error:  # too many are busy: the command waits
            raise RpcDisconnected(str(error)) from error

    async def _find(self) -> Address:
        await self._known.wait()
        assert self._at is not None
        return self._at


def _mark(epoch: int, routes: Routes) -> tuple[Any, ...]:
    """Return what is another when the table is."""
    return epoch, routes["version"], tuple(each["actor"] for each in routes["hosts"])
