"""Checking the addresses of webhooks, and connecting only to checked ones.

A name is resolved once, and the connection goes to the resulting address. If a checked name were
resolved again by the client, it might connect to another address, as the owner of the name can
answer differently a moment later.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpcore

Resolve = Callable[[str, int], Awaitable[list[str]]]

_NAT64 = (0x64FF9B << 96, 96)


class ForbiddenAddress(Exception):
    """A name resolves to an address that is forbidden for webhooks."""


def is_public(text: str) -> bool:
    """Return whether an address is public; also checks addresses embedded in IPv6."""
    address = ip_address(text.partition("%")[0])
    return all(each.is_global and not each.is_multicast for each in _all_of(address))


def _all_of(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    found: list[IPv4Address | IPv6Address] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    network, bits = _NAT64
    if int(address) >> (128 - bits) == network >> (128 - bits):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return found


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name by the system's resolver.

    Raises:
        OSError: there are none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that it has checked itself."""

    def __init__(self, *, private: bool, resolve: Resolve = resolve) -> None:
        """`private` allows every address."""
        self._private = private
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the name's addresses; TLS goes on to check the name.

        Raises:
            ForbiddenAddress: one of them is private, even if it would not have been used.
        """
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        if not self._private:
            for each in addresses:
                if not is_public(each):
                    raise ForbiddenAddress(
                        f"{host} is at {each}, a private address: see private_addresses"
                    )
        failed = httpcore.ConnectError(f"{host} has no address")
        for each in addresses:
            try:
                return await self._backend.connect_tcp(
                    each, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = httpcore.ConnectError(f"{host} at {each}: {error}")
        raise failed

    async def sleep(self, seconds: float) -> None:
        """See `AsyncNetworkBackend`."""
        await asyncio.sleep(seconds)
