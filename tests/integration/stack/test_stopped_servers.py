"""A server that runs and does not answer is told from one that is well.

How long that takes is printed, and asserted where `RAYFOLD_CHAOS_KILLS` is set.
"""

from __future__ import annotations

import os
import signal
import time

import httpx
import psutil
import pytest

from tests.stack import Stack

ASKED_FOR = "RAYFOLD_CHAOS_KILLS" in os.environ

NOTICED = 3.5
"""Seconds: an interval, a silence, and the way to us."""

DEADLINE = 60.0
"""Seconds for whatever is waited for."""


@pytest.mark.parametrize(
    ("name", "command"), [("eventstore", "eventstore.embedded"), ("postgres", "postgres -D")]
)
def test_a_stopped_server_is_not_ready_until_it_goes_on(
    stack: Stack, name: str, command: str
) -> None:
    [server] = [
        child
        for child in psutil.Process(stack.pid).children()
        if command in " ".join(child.cmdline())
    ]
    backends = server.children() if name == "postgres" else []
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        until_ready(http, name)
        for process in [server, *backends]:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            since = time.monotonic()
            while name not in (missing := not_ready(http)):
                assert time.monotonic() - since < DEADLINE, missing
                time.sleep(0.05)
            noticed = time.monotonic() - since
            print(f"{name}: noticed after {noticed:.1f} s")
            assert not ASKED_FOR or noticed < NOTICED
            told = http.get("/health/ready")
            assert told.status_code in (200, 503)
        finally:
            for process in [server, *backends]:
                os.kill(process.pid, signal.SIGCONT)
        until_ready(http, name)
    said = (stack.data.parent / f"{stack.data.name}.log").read_text()
    assert f"a server is not ready server={name}" in said
    assert f"a server is ready again server={name}" in said


def until_ready(http: httpx.Client, name: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while name in (missing := not_ready(http)):
        assert time.monotonic() < deadline, missing
        time.sleep(0.05)


def not_ready(http: httpx.Client) -> list[str]:
    answer = http.get("/health/parts")
    return [] if answer.status_code == 200 else [part["part"] for part in answer.json()["parts"]]
