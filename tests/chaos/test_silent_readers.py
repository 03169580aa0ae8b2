"""Replicas and projectors that are killed or stopped: seen at once, made good in seconds.

How long that takes is printed, and asserted where `RAYFOLD_CHAOS_KILLS` is set.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.stack import Stack

ASKED_FOR = "RAYFOLD_CHAOS_KILLS" in os.environ
NOTICED = 3.0
SERVED = 20.0


def parts_of(http: httpx.Client, kind: str) -> list[dict[str, Any]]:
    parts = http.get("/operators/status").json()["parts"]
    return [part for part in parts if part["kind"] == kind]


def until(http: httpx.Client, kind: str, *, ready: bool, but: int = 0) -> float:
    """Look until all of the kind are ready, with other pids, or one is not; the seconds."""
    began = time.monotonic()
    while True:
        parts = parts_of(http, kind)
        good = all(part["ready"] and part.get("pid") != but for part in parts)
        if good is ready:
            return time.monotonic() - began
        assert time.monotonic() - began < 60, parts
        time.sleep(0.05)


def test_a_reader_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    stack.start()
    try:
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            body = {"order_id": "0b5e4d5e-2c51-4d4e-9d3a-6a5f9d1c7a10", "customer_id": "ada"}
            assert http.post("/orders", json=body).status_code == 202
            for kind in ("memory", "postgres"):
                for number in (signal.SIGKILL, signal.SIGSTOP):
                    until(http, kind, ready=True)
                    pid = parts_of(http, kind)[0]["pid"]
                    os.kill(pid, number)
                    try:
                        noticed = until(http, kind, ready=False)
                        served = noticed + until(http, kind, ready=True, but=pid)
                    finally:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    print(f"{kind} {number.name}: noticed {noticed:.1f} s, good {served:.1f} s")
                    assert not ASKED_FOR or noticed < NOTICED
                    assert not ASKED_FOR or served < SERVED
                    answer = http.get(
                        f"/orders/{body['order_id']}", headers={"Rayfold-Store": kind}
                    )
                    assert answer.status_code == 200
            assert http.get("/operators/verify").json() == {"differences": []}
    finally:
        assert stack.stop() == 0
