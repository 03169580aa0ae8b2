"""A whole `rayfold up` as a child process of the tests, used as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.ports import free_port

START = 120.0
STOP = 60.0


class Stack:
    """One `rayfold up` in a process group of its own."""

    def __init__(
        self,
        data: Path,
        *flags: str,
        command: list[str] | None = None,
        folder: Path | None = None,
        **environment: str,
    ) -> None:
        """`command` is the checkout's own, and `folder` where it runs, unless given."""
        self.data = data
        self._command = command or rayfold()
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it says that it is ready."""
        log = (self.data.parent / f"{self.data.name}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    # `nohup` keeps a closed terminal from all that it starts, the tests too.
                    *("env", "--default-signal=HUP"),
                    *self._command,
                    "up",
                    "--data",
                    str(self.data),
                    "--port",
                    str(self.port),
                    *self._flags,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        os.set_blocking(self.stdout.fileno(), False)
        until = time.monotonic() + START
        said = b""
        while b"ready " not in said:
            if self._process.poll() is not None or time.monotonic() > until:
                text = Path(log.name).read_text()[-3000:]
                self.kill()
                raise AssertionError(f"rayfold up did not become ready: {said!r}\n{text}")
            said += self.stdout.read() or b""
            select_readable(self.stdout.fileno(), 0.2)
        assert f"ready {self.url}" in said.decode()

    @property
    def started(self) -> bool:
        """Whether it ever was."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The gateway's process, which leads the group."""
        assert self._process is not None
        return self._process.pid

    @property
    def stdout(self):  # type: ignore[no-untyped-def]
        """What it prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(STOP)

    def hang_up(self) -> int:
        """Close its terminal, as it were, in which all of the group are; return its exit code."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGHUP)
        return self._process.wait(STOP)

    def kill(self) -> None:
        """SIGKILL to the whole group, as a crash of the machine would."""
        assert self._process is not None
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP)


def rayfold() -> list[str]:
    """The command, with this interpreter."""
    return [sys.executable, "-c", "from deploy.cli import main; main()"]


def select_readable(descriptor: int, timeout: float) -> None:
    """Wait until there is something to read, or `timeout` seconds."""
    import select

    select.select([descriptor], [], [], timeout)


def run_rayfold(stack: Stack, *command: str, code: int = 0) -> str:
    """Run a command against the stack; return what it printed, one line if it failed."""
    done = subprocess.run(
        [*rayfold(), *command, "--data", str(stack.data)], capture_output=True, timeout=START
    )
    assert done.returncode == code, done.stderr.decode()
    if code:
        assert done.stderr.decode().count("\n") == 1
        return done.stderr.decode()
    return done.stdout.decode()
