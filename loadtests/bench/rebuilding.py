"""How fast a Postgres view is rebuilt, against the bare client reading the same log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from kurrentdbclient import KurrentDBClient

from eventstore.kurrentdb.log import EventLog
from loadtests.bench.contenders import serving
from loadtests.replica_copy import EVENTS, life

VIEW = "order-details"


def measure(events: int) -> dict[str, float]:
    """Return events per second of both, and their ratio, with so many events in the log."""
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as temporary:
        data = Path(temporary)
        data.chmod(0o755)
        store = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "eventstore.embedded",
                "--port",
                "0",
                "--data",
                str(data / "eventstore"),
            ],
            stdout=subprocess.PIPE,
        )
        assert store.stdout is not None
        uri = store.stdout.readline().decode().strip()
        try:
            asyncio.run(_fill(uri, events))
        finally:
            store.terminate()
            store.wait()
        with serving("rayfold", data) as server:
            bare = _read((data / "eventstore.uri").read_text())
            rebuild = _rebuild(server.port)
        return {
            "bare": bare,
            "rebuild": rebuild,
            "ratio": rebuild / bare,
            "started": server.started,
        }


async def _fill(uri: str, events: int) -> None:
    log = EventLog(uri)
    for _ in range(events // EVENTS // 100):
        await log.append([life() for _ in range(100)])
    await log.close()


def _read(uri: str) -> float:
    """Read the whole log by the bare client, the synchronous one, which is the faster."""
    with KurrentDBClient(uri) as client:
        began, count = time.perf_counter(), 0
        for _ in client.read_all():
            count += 1
        return count / (time.perf_counter() - began)


def _rebuild(port: int) -> float:
    status: dict[str, Any] = _ask(port, "/operators/rebuild", {"view": VIEW})
    while status["state"] not in ("done", "failed"):
        time.sleep(0.1)
        rebuilds = _ask(port, "/operators/rebuilds")["rebuilds"]
        status = next(each for each in rebuilds if each["view"] == VIEW)
    if status["state"] == "failed":
        raise RuntimeError(status["error"])
    return float(status["events_per_second"])


def _ask(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=60) as answer:
        return json.load(answer)
