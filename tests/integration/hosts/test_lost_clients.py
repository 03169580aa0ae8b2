"""Sessions of machines that vanished silently are ended."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hosts import Network
from tests.hosts.servers import start_postgres

HOLD = """
import asyncio, sys
from rayfold.runtime.postgres import FAILURES, connect

async def hold():
    async with asyncio.timeout(60):
        while True:
            try:
                session = await connect(sys.argv[1], server_settings={"application_name": "lost"})
                break
            except FAILURES:  # it is starting up
                await asyncio.sleep(0.1)
    print("connected", flush=True)
    await asyncio.sleep(600)

asyncio.run(hold())
"""

WATCH = """
import asyncio, sys
from rayfold.runtime.postgres import connect

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lost'"

async def watch():
    session = await connect(sys.argv[1])
    print(await session.fetchval(SESSIONS), flush=True)
    async with asyncio.timeout(90):
        while await session.fetchval(SESSIONS):
            await asyncio.sleep(0.2)
    print("gone", flush=True)

asyncio.run(watch())
"""


def test_postgres_ends_the_sessions_of_a_machine_without_power(tmp_path: Path) -> None:
    """Its default is two hours: after some lost nodes it would refuse their replacements."""
    with Network(tmp_path) as network:
        stores, lost = network.host("stores"), network.host("lost")
        dsn, _ = start_postgres(stores)
        holder = lost.start("holder", sys.executable, "-c", HOLD, dsn)
        holder.until_said("connected")
        watcher = stores.start("watcher", sys.executable, "-c", WATCH, dsn)
        assert watcher.until_said("1")
        lost.power_off()
        assert watcher.wait() == 0
        assert watcher.said().endswith("gone\n")
