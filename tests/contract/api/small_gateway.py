"""A gateway over fakes in a process with few file descriptors; it prints its port.

python -m tests.contract.api.small_gateway 128
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys

import uvloop

from api.http.server import serve
from rayfold import Registry
from tests.unit.api.conftest import Gateway


async def main() -> None:
    """Serve on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = Gateway(Registry.load("domain")).app
    await serve(app, listening, stop=asyncio.Event(), on_ready=lambda: print(port, flush=True))


if __name__ == "__main__":
    files = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    uvloop.run(main())
