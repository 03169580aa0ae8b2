"""A proxy that ends TLS before the gateway, as nginx or Caddy would."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trustme

_HOST = re.compile(rb"\r\nhost: [^\r]+", re.IGNORECASE)


@asynccontextmanager
async def tls_proxy(name: str, to: int, *, host: str | None = None) -> AsyncIterator[int]:
    """Run it under that name; yield its port. It sends `host` as `Host`, or what the browser did.

    nginx sends the upstream's name unless it is told otherwise.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(name).configure_cert(context)

    def asked(data: bytes) -> bytes:
        told = b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7"
        if host is not None:
            told += b"\r\nHost: " + host.encode()
            return _HOST.sub(told, data, count=1)
        return _HOST.sub(lambda found: found[0] + told, data, count=1)

    async def pump(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(asked(data) if is_request else data)
                await sink.drain()
        sink.close()

    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", to)
        open_now.update((writer, up_writer))
        await asyncio.gather(
            pump(reader, up_writer, is_request=True), pump(up_reader, writer, is_request=False)
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in open_now:
            each.close()
