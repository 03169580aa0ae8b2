"""An embedded event store on a small disk of its own, which can be filled up, and stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from eventstore import embedded
from tests.ports import free_port

DEADLINE = 60.0
"""Seconds for whatever is waited for."""


class SmallDiskStore:
    """Runs in namespaces where whoever starts it may mount: its disk is seen by it alone."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"kdb://127.0.0.1:{self.port}?Tls=false"
        serve = f"exec {sys.executable} -m {embedded.__name__} --port {self.port} --data {folder}"
        mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {folder}"
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        self._process = subprocess.Popen(
            [*own, "sh", "-c", f"{mount} && {serve}/store"], stdout=subprocess.PIPE
        )

    def start(self) -> None:
        """Return when it listens."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the store ended before it was ready"

    @property
    def process(self) -> psutil.Process:
        """The store's process, to stop it and let it go on."""
        return psutil.Process(self._process.pid)

    def fill(self) -> None:
        """Write until nothing more fits."""
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        """Remove that again."""
        self._ballast.unlink()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(DEADLINE)

    @property
    def _ballast(self) -> Path:
        # Its disk, through its own eyes.
        return Path(f"/proc/{self._process.pid}/root{self._folder}/ballast")


@contextmanager
def small_disk_store(folder: Path, megabytes: int = 64) -> Iterator[SmallDiskStore]:
    """Run one; `folder` is empty for everybody else."""
    folder.mkdir()
    store = SmallDiskStore(folder, megabytes)
    try:
        store.start()
        yield store
    finally:
        store.end()
