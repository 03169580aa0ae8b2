"""Fills a log and runs `rayfold up` on it: start-up, memory, CPU and disk of each part."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from eventstore.kurrentdb.log import EventLog
from eventstore.port import StreamAppend
from loadtests.bench.usage import cpu_seconds, memory_bytes, processes
from loadtests.order_streams import order_stream

LINES = 4
EVENTS = LINES + 1
BATCH = 100
"""Streams in one append."""

STARTS = 1200.0
STOPS = 60.0

PARTS = ("gateway", "host", "replica", "projector", "store", "postgres", "ray")


class Stack(NamedTuple):
    """A running stack. `started` is seconds until it served; `views` those of catching up alone."""

    pid: int
    port: int
    data: Path
    started: float
    views: float


def open_order() -> tuple[str, StreamAppend]:
    """Return the id and events of an order that still accepts lines, as in the measured writes."""
    return order_stream(LINES, placed=False)


def fill(data: Path, events: int) -> tuple[list[str], float]:
    """Fill an embedded store with this many events; return order ids, and the seconds it took."""
    data.mkdir(parents=True)
    data.chmod(0o755)  # Postgres changes its user when it is started as root
    folder = str(data / "eventstore")
    store = subprocess.Popen(
        [sys.executable, "-m", "eventstore.embedded", "--port", "0", "--data", folder],
        stdout=subprocess.PIPE,
    )
    assert store.stdout is not None
    uri = store.stdout.readline().decode().strip()
    orders: list[str] = []

    async def append() -> None:
        log = EventLog(uri)
        while len(orders) < events // EVENTS:
            made = [open_order() for _ in range(min(BATCH, events // EVENTS - len(orders)))]
            await log.append([stream for _, stream in made])
            orders.extend(order for order, _ in made)
        await log.close()

    began = time.perf_counter()
    try:
        asyncio.run(append())
        return orders, time.perf_counter() - began
    finally:
        store.terminate()
        store.wait()


@contextmanager
def running(data: Path) -> Iterator[Stack]:
    """Run `rayfold up` for the block. It serves once every view has caught up."""
    port = _free_port()
    command = "from deploy.cli import main; main()"
    arguments = ["up", "--port", str(port), "--data", str(data)]
    began = time.perf_counter()
    with (data / "up.log").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
    watchdog = signal.signal(signal.SIGALRM, lambda *_: process.terminate())
    signal.alarm(int(STARTS))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        signal.alarm(0)
        log = (data / "up.log").read_text()
        if not line.startswith(b"ready"):
            raise RuntimeError(f"rayfold up: {log[-2000:]}")
        started = time.perf_counter() - began
        views = re.search(r"^views: ([\d.]+) s", log, re.MULTILINE)
        yield Stack(process.pid, port, data, started, float(views[1]) if views else 0.0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, watchdog)
        process.terminate()
        try:
            process.wait(STOPS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(stack: Stack, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send the gateway a request as the command line does: a POST if there is a body."""
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.port}{path}", data, 180) as answer:
        return json.load(answer)


def caught_up(stack: Stack) -> float:
    """Wait until no part is behind the log; return the seconds it took."""
    began = time.perf_counter()
    while True:
        parts = ask(stack, "/operators/status")["parts"]
        if all(part["ready"] and not part.get("lag") for part in parts):
            return time.perf_counter() - began
        time.sleep(0.1)


def of_part(stack: Stack) -> dict[str, list[psutil.Process]]:
    """Return the stack's processes by part."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in processes(stack.pid, stack.data):
        try:
            name, command = process.name(), " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        found[_part(process.pid == stack.pid, name, command)].append(process)
    return found


def _part(root: bool, name: str, command: str) -> str:
    if root:
        return "gateway"
    if "eventstore.embedded" in command:
        return "store"
    if name.startswith("postgres"):
        return "postgres"
    actors = {"HostActor": "host", "ReplicaActor": "replica", "ProjectorActor": "projector"}
    return next((part for actor, part in actors.items() if f"ray::{actor}" in command), "ray")


def memory_mb(stack: Stack) -> dict[str, float]:
    """Return the PSS of each part in 10^6 bytes, and their sum."""
    by_part = {part: memory_bytes(of) / 1e6 for part, of in of_part(stack).items()}
    return by_part | {"sum": sum(by_part.values())}


def cpu(stack: Stack) -> dict[str, float]:
    """Return CPU seconds of each part since it started; Postgres with its ended sessions."""
    by_part = of_part(stack)
    used = {part: cpu_seconds(of) for part, of in by_part.items()}
    for process in by_part.get("postgres", ()):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used["postgres"] += times.children_user + times.children_system
    return used


def disk_mb(folder: Path) -> float:
    """Return the allocated 10^6 bytes below a folder."""
    blocks = (path.lstat().st_blocks for path in folder.rglob("*") if path.is_file())
    return sum(blocks) * 512 / 1e6


def rested(stack: Stack, least: float = 13.0, most: float = 120.0) -> float:
    """Wait until replicas have frozen cold rows, twice five seconds on; return seconds."""
    began = time.perf_counter()
    while True:
        before = sum(cpu(stack).values())
        time.sleep(1)
        waited, used = time.perf_counter() - began, sum(cpu(stack).values()) - before
        if waited > most or (waited > least and used < 0.5):
            return waited
