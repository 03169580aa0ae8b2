"""Calls to a stack's controller, which gateways make for what they may not do themselves.

A call has the name of a method and named arguments. A `RayfoldError` of the controller is raised
at the caller. Only callers that have the key in the controller's address are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from rayfold import RayfoldError
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServer, RpcServerFailed

TIMEOUT = 600.0
"""Seconds that a call may take by default: scaling and verifying are slow."""

GRACE = 5.0
"""Seconds that a stopping controller has to answer pending calls."""

Methods = Mapping[str, Callable[..., Awaitable[Any]]]


class ControllerUnavailable(RayfoldError):
    """The controller does not answer; it may or may not have done what was asked. Ask again.

    Status 503 over HTTP. Commands and queries are still served without the controller.
    """

    def __init__(self, detail: str, retry_after: int = 2) -> None:
        super().__init__(detail, retry_after)
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.detail


class ControllerServer:
    """Answers calls by functions of the controller's."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._rpc = RpcServer(self._serve)

    async def address(self, host: str) -> Address:
        """Listen on this host; return where. See `RpcServer.address`."""
        return await self._rpc.address(host)

    async def close(self) -> None:
        """Stop listening; answer pending calls if that takes no longer than `GRACE`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._rpc.close()
        self._rpc.cut()

    async def _serve(self, request: tuple[str, dict[str, Any]]) -> tuple[bool, Any]:
        name, arguments = request
        method = self._methods.get(name)
        if method is None:
            return False, ControllerUnavailable(
                f"the controller does not know {name!r}: it is still starting, or runs another"
                " release; ask again"
            )
        try:
            return True, await method(**arguments)
        except RayfoldError as error:
            return False, error


class ControllerClient:
    """Calls the present controller."""

    def __init__(self, find: Callable[[], Address | None]) -> None:
        """`find` returns the controller's last known address, or None."""
        self._find = find
        self._at: Address | None = None
        self._rpc: RpcClient | None = None

    async def call(self, method: str, timeout: float = TIMEOUT, **arguments: Any) -> Any:
        """Return the answer.

        Raises:
            ControllerUnavailable: there is no answer within `timeout` seconds.
            RayfoldError: as it was raised there.
        """
        try:
            async with asyncio.timeout(timeout):
                done, answer = await self._connected().call((method, arguments))
        except RpcServerFailed as error:
            raise ControllerUnavailable(f"the controller failed: {error}") from error
        except (RpcDisconnected, TimeoutError) as error:
            reason = str(error) or f"no answer in {timeout:.0f} s"
            raise ControllerUnavailable(f"the controller does not answer: {reason}") from error
        if done:
            return answer
        raise answer

    def close(self) -> None:
        """Disconnect."""
        if self._rpc is not None:
            self._rpc.close()

    def _connected(self) -> RpcClient:
        at = self._find()
        if at is None:
            raise RpcDisconnected("none is known")
        if self._rpc is None or at != self._at:
            self.close()
            self._at = at
            self._rpc = RpcClient(self._address)
        return self._rpc

    async def _address(self) -> Address:
        assert self._at is not None
        return self._at
