"""How a process actor reaches the writers of aggregates: by the process that owns the stack."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from actors.command_bus import CommandBus
from actors.envelope import Envelope
from actors.errors import Unavailable
from actors.host.host_actor import portable
from rayfold import Receipt
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServer, RpcServerFailed


class Relay:
    """Sends on what process actors send."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus
        self._rpc = RpcServer(self._send)

    async def address(self, host: str) -> Address:
        """Return where commands are taken."""
        return await self._rpc.address(host)

    async def close(self) -> None:
        """Take no more."""
        self._rpc.cut()
        await self._rpc.close()

    async def _send(self, wire: tuple[Any, ...]) -> Any:
        try:
            receipt = await self._bus.send(Envelope.from_wire(wire, time.monotonic()))
        except Exception as error:
            return portable(error)
        return str(receipt.command_id), receipt.stream, receipt.revision, receipt.position


class RelayedBus:
    """Commands by way of whoever owns the stack; see `CommandBus.send`."""

    def __init__(self) -> None:
        self._at: Address | None = None
        self._known = asyncio.Event()
        self._rpc = RpcClient(self._find)

    def follow(self, address: Address) -> None:
        """Send there from now on."""
        if address != self._at:
            self._at = address
            self._rpc.close()
            self._known.set()

    async def send(self, envelope: Envelope) -> Receipt:
        """See `CommandBus.send`."""
        try:
            async with asyncio.timeout(envelope.deadline - time.monotonic()):
                outcome = await self._rpc.call(envelope.to_wire(time.monotonic()))
        except (RpcDisconnected, RpcServerFailed, TimeoutError) as error:
            raise Unavailable(f"the owner of the stack does not answer: {error}") from error
        if isinstance(outcome, tuple):
            command_id, stream, revision, position = outcome
            return Receipt(
                command_id=UUID(command_id), stream=stream, revision=revision, position=position
            )
        raise outcome

    def close(self) -> None:
        """Disconnect."""
        self._rpc.close()

    async def _find(self) -> Address:
        await self._known.wait()
        assert self._at is not None
        return self._at
