"""Children that are forked while gRPC has calls under way, as Postgres, Ray and actors are."""

import subprocess
import sys

FORKS = 300
"""One in twenty died before gRPC was told to leave them alone."""

PROGRAM = f"""
import asyncio, os, subprocess
import eventstore.kurrentdb
from grpc import RpcError, aio

async def calls(port):
    while True:  # each to a server that hangs up: connections are begun and ended all the time
        async with aio.insecure_channel(f"127.0.0.1:{{port}}") as channel:
            try:
                await channel.unary_unary("/a/B")(b"", timeout=0.05)
            except RpcError:
                pass

def exit_codes():
    # A user that is named makes Python fork: without, vfork runs no handlers.
    return {{subprocess.run(["true"], user=os.geteuid()).returncode for _ in range({FORKS})}}

async def main():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    calling = [asyncio.create_task(calls(port)) for _ in range(3)]
    print(await asyncio.to_thread(exit_codes), all(not task.done() for task in calling))
    for task in calling:
        task.cancel()
    await asyncio.wait(calling)

asyncio.run(main())
"""


def test_a_child_forked_beside_calls_starts() -> None:
    result = subprocess.run(
        (sys.executable, "-c", PROGRAM), capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.returncode) == ("{0} True\n", 0), result.stderr
