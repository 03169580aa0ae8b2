"""Replicas and projectors that are stopped: seen at once, made good in seconds.

How long that takes is printed, and asserted where `RAYFOLD_CHAOS_KILLS` is set. Those that die are
among the processes of `tests/chaos/test_every_process_may_die.py`.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.integration.stack.orders import create

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


@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_a_reader_that_hangs_is_replaced(http: httpx.Client, kind: str) -> None:
    order = create(http)
    until(http, kind, ready=True)
    pid = parts_of(http, kind)[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        noticed = until(http, kind, ready=False)
        served = noticed + until(http, kind, ready=True, but=pid)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(f"{kind}: noticed {noticed:.1f} s, good {served:.1f} s")
    assert not ASKED_FOR or noticed < NOTICED
    assert not ASKED_FOR or served < SERVED
    assert http.get(f"/orders/{order}", headers={"Rayfold-Store": kind}).status_code == 200
    assert http.get("/operators/verify", timeout=120).json() == {"differences": []}
