"""A played cluster as a process: `python -m eventstore.embedded.cluster --data DIR`.

It prints the connection string, then does what lines on stdin say, and answers each with `done`:
`lead N`, `elect` (nobody leads), `away N`, `back N`. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from eventstore.embedded.cluster.server import PlayedCluster
from eventstore.embedded.http2.tls import tls_context


async def _serve(cluster: PlayedCluster) -> None:
    await cluster.start()
    print(cluster.uri, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *numbers = line.split()
        if what == "lead":
            await cluster.lead(int(numbers[0]))
        elif what == "elect":
            await cluster.lead(None)
        elif what == "away":
            await asyncio.gather(*(cluster.take_away(int(number)) for number in numbers))
        elif what == "back":
            for number in numbers:
                await cluster.bring_back(int(number))
        print("done", flush=True)
    await cluster.stop()


def main() -> None:
    """Run until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m eventstore.embedded.cluster")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE")
    parser.add_argument("--tls-private-key", type=Path, metavar="FILE")
    parser.add_argument("--tls-user-ca", type=Path, metavar="FILE")
    given = parser.parse_args()
    tls = tls_context(given.tls_certificate, given.tls_private_key, given.tls_user_ca)
    uvloop.run(_serve(PlayedCluster(given.data, given.host, tls)))


if __name__ == "__main__":
    main()
