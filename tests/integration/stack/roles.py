"""Processes of a stack on a cluster: controllers and gateways, as children of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.stack import START, STOP, rayfold, select_readable


class Role:
    """`rayfold controller`, or `rayfold gateway`."""

    def __init__(self, folder: Path, name: str, *command: str, **environment: str) -> None:
        """`name` is its log's."""
        self._log = folder / f"{name}.log"
        self._command = command
        self._environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes]
        self.url = ""

    def start(self) -> Role:
        """Start it; it may not be ready yet."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*rayfold(), *self._command],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def ready(self) -> Role:
        """Return when it says that it is ready."""
        stdout = self.process.stdout
        assert stdout is not None
        os.set_blocking(stdout.fileno(), False)
        until, said = time.monotonic() + START, b""
        while b"ready " not in said:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            said += stdout.read() or b""
            select_readable(stdout.fileno(), 0.2)
        self.url = said.decode().split("ready ")[1].split()[0]
        return self

    def says(self, text: str) -> None:
        """Return when its log has the text."""
        until = time.monotonic() + START
        while text not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        """Return the end of what it has logged."""
        return self._log.read_text()[-6000:]

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP)

    def kill(self) -> None:
        """SIGKILL to it alone."""
        self.process.kill()
        self.process.wait(STOP)
