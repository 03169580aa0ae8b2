"""The embedded server as a process of its own, as users run it."""

import signal
import subprocess
import sys
from pathlib import Path


class ServerProcess:
    """Start, stop, kill."""

    def __init__(self, data: Path, port: int = 0, *flags: str) -> None:
        self.data = data
        command = [sys.executable, "-m", "eventstore.embedded", "--port", str(port)]
        self._process = subprocess.Popen(
            [*command, "--data", str(data), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline()
        self.uri = self.line.strip()

    @property
    def target(self) -> str:
        """Host and port."""
        authority = self.uri.removeprefix("kdb://").partition("?")[0]
        return authority.rpartition("@")[2]

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def outcome(self) -> tuple[int, str]:
        """Wait for the end; exit code and what it said on stderr."""
        _, errors = self._process.communicate(timeout=30)
        return self._process.returncode, errors

    def stop(self) -> tuple[int, str]:
        """SIGTERM, and wait."""
        self._process.send_signal(signal.SIGTERM)
        return self.outcome()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is finished."""
        self._process.kill()
        self._process.communicate(timeout=30)
