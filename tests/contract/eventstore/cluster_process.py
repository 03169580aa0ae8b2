"""A played cluster as a process of its own: its nodes change roles, and go, on command."""

import subprocess
import sys
from pathlib import Path


class ClusterProcess:
    """Three nodes over one store; see `eventstore.embedded.cluster`."""

    def __init__(self, data: Path, *flags: str) -> None:
        self.data = data
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eventstore.embedded.cluster", "--data", str(data), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.uri = self._answer()

    @property
    def targets(self) -> list[str]:
        """Host and port of each node."""
        return self.uri.partition("://")[2].partition("?")[0].rpartition("@")[2].split(",")

    @property
    def pid(self) -> int:
        """Of all nodes."""
        return self._process.pid

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, command: str) -> None:
        """Say `lead N`, `elect`, `away N…` or `back N…`; return when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done", command

    def stop(self) -> None:
        """End it, whatever state it is in."""
        self._process.kill()
        self._process.communicate(timeout=30)
