"""Ray of our own forks its workers from a process that has imported what they need.

A worker that imports Ray and us for itself takes a second of CPU, and memory that a fork shares
with the others. Raylets of a cluster that we join start theirs as they do.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.raylet import fork_server_process, worker_start
from deploy.raylet.command import Change

PRELOADED = f"{__package__}.preloaded"
PRELOADED_DOMAIN = f"{__package__}.preloaded_domain"
"""By name, as they are not to be imported here."""

DOMAIN = "RAYFOLD_DOMAIN"
"""The variable that has the name of the domain's package."""

END_TIMEOUT = 5.0
"""Seconds for the server to end."""


class ForkServer:
    """The process from which workers are forked; it ends when this one does, and they with it.

    Workers go on when it was killed. Others do without it then: they take longer to start.
    """

    def __init__(self, modules: Sequence[str] = (PRELOADED,), *, domain: str = "") -> None:
        """Start it. It imports the modules meanwhile; who asks for a fork waits for that.

        The first of them is needed; without others that cannot be imported once for all it goes
        on. `domain` is a package of the user's, which is one of those.

        Raises:
            OSError: it cannot be started, or this system has no handles of processes.
        """
        # Not every Python has them, nor every kernel.
        if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
            raise OSError("Python was built without handles of processes (pidfd)")
        os.close(os.pidfd_open(os.getpid()))
        self._folder = Path(tempfile.mkdtemp(prefix="rayfold-"))  # for this user alone
        self.path = str(self._folder / "forks.sock")
        try:
            self._process = self._start(modules, domain)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _start(self, modules: Sequence[str], domain: str) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(128)
            # Ray's library reads these when it is loaded, so they are the same for each fork: no
            # job, as for workers that Ray starts in advance, and who it is that they end with.
            told = {"RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": str(os.getpid()), DOMAIN: domain}
            if domain:
                modules = [*modules, PRELOADED_DOMAIN]
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    fork_server_process.__name__,
                    str(listener.fileno()),
                    *modules,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
                process_group=0,
                env={**os.environ, **told},
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has, though nobody stopped it."""
        return self._process.poll() is not None

    def change(self) -> Change:
        """Return what a raylet is told, so that its workers are forked."""
        import ray

        # Ray leaves the second word out for a worker that has no environment of its own.
        setup = Path(ray.__file__).parent / "_private/workers/setup_worker.py"
        before = (sys.executable, str(setup))
        return Change("python_worker_command", before, (*before, worker_start.__file__, self.path))

    def stop(self) -> None:
        """End it, and with it what it has forked. Blocks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:  # it is importing, or hangs
            forks = psutil.Process(self.pid).children()
            self._process.kill()
            self._process.wait()
            for each in forks:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
