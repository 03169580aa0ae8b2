"""Namespaces of the kernel: what makes a process believe that it has a machine to itself.

Nothing of them has a name outside of the test run: they are held by their first process alone,
and the kernel ends that one with the test, also when the test is killed. With it go all other
processes, and with these the namespaces, their interfaces and their mounts. So nothing is left,
and two runs on one machine never meet, though both use the same addresses.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pyroute2 import netns

from deploy.stack import launch
from tests.hosts import first_process

END_TIMEOUT = 30.0
"""Seconds for killed processes to be gone."""


class Namespaces:
    """Network, processes, mounts, host name and shared memory of one host."""

    def __init__(self, name: str, folder: Path) -> None:
        """`folder` is the host's own `/tmp/ray`.

        The main thread calls: the kernel ends what it started when that thread ends.
        """
        folder.mkdir(parents=True, exist_ok=True)
        unshare = _program("unshare")
        own = ["--net", "--pid", "--mount", "--uts", "--ipc", "--mount-proc"]
        python = [sys.executable, "-I", "-S"]
        self._outer = subprocess.Popen(
            [
                *python,
                launch.__file__,
                *(str(int(signal.SIGKILL)), str(os.getpid()), "-1", "-1"),
                *(unshare, *own, "--fork", "--kill-child=KILL", "--"),
                *(*python, first_process.__file__, name, str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._outer.stdout is not None
        if self._outer.stdout.readline() != b"up\n":
            self.end()
            raise AssertionError("no namespaces: the tests of a cluster must run as root")
        [first] = psutil.Process(self._outer.pid).children()
        self.pid = first.pid
        """Of the first process, as the outside sees it."""
        self.network = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)

    def command(self, folder: Path, *command: str) -> list[str]:
        """Return the command that runs the command inside, in the folder."""
        own = ["--net", "--pid", "--mount", "--uts", "--ipc"]
        return [_program("nsenter"), f"--target={self.pid}", *own, f"--wdns={folder}", *command]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread open sockets inside; what it starts meanwhile is there too."""
        netns.pushns(self.network)
        try:
            yield
        finally:
            netns.popns()

    def processes(self) -> list[psutil.Process]:
        """Return the processes inside, but the first."""
        ours = os.stat(f"/proc/{self.pid}/ns/pid").st_ino
        found = []
        for process in psutil.process_iter():
            try:
                inside = os.stat(f"/proc/{process.pid}/ns/pid").st_ino == ours
            except OSError:  # it ended
                continue
            if inside and process.pid != self.pid:
                found.append(process)
        return found

    def end(self) -> None:
        """Kill all processes inside, as the kernel does when their first one ends; wait."""
        self._outer.kill()
        self._outer.wait(END_TIMEOUT)
        assert self._outer.stdout is not None
        self._outer.stdout.close()
        if hasattr(self, "network"):
            os.close(self.network)
            # It ends last, once all others are reaped; one that nobody reaps holds it up.
            with suppress(psutil.NoSuchProcess):
                psutil.Process(self.pid).wait(END_TIMEOUT)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: it is part of util-linux"
    return found
