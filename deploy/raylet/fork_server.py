"""A fork server for local Ray: workers are forked from a process with all imports done.

A worker that does its own imports takes a second of CPU time, and memory that forks would share.
Raylets of a cluster that we join start workers in their usual way.
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
"""By name, as they must not be imported here."""

DOMAIN = "RAYFOLD_DOMAIN"
"""The environment variable with the name of the domain's package."""

END_TIMEOUT = 5.0
"""Seconds that the server has to end."""


class ForkServer:
    """The process from which workers are forked; it ends with this process, and its forks with it.

    If it is killed, its forks go on. Later workers start without it, which takes longer.
    """

    def __init__(self, modules: Sequence[str] = (PRELOADED,), *, domain: str = "") -> None:
        """Start the server. It imports the modules meanwhile; a request for a fork waits for that.

        The first module is required; others that cannot be imported once for all forks are skipped.
        `domain` is the user's package, which is one of those.

        Raises:
            OSError: it cannot be started, or this system has no process handles (pidfd).
        """
        # Not every Python or kernel has them.
        if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
            raise OSError("Python was built without handles of processes (pidfd)")
        os.close(os.pidfd_open(os.getpid()))
        self._folder = Path(tempfile.mkdtemp(prefix="rayfold-"))  # only for this user
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
            # job, as for workers that Ray starts in advance, and the process with which they end.
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
        """The id of the server's process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended without being stopped."""
        return self._process.poll() is not None

    def change(self) -> Change:
        """Return the change of a raylet's command that makes its workers forks."""
        import ray

        # Ray omits the second word for a worker without an environment of its own.
        setup = Path(ray.__file__).parent / "_private/workers/setup_worker.py"
        before = (sys.executable, str(setup))
        return Change("python_worker_command", before, (*before, worker_start.__file__, self.path))

    def stop(self) -> None:
        """End the server and its forks. Blocks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:  # it is importing or hangs
            forks = psutil.Process(self.pid).children()
            self._process.kill()
            self._process.wait()
            for each in forks:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
