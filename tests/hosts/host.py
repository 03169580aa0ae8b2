"""A host: boots, runs programs, loses its link, loses its power."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.hosts import service
from tests.hosts.namespaces import Namespaces

if TYPE_CHECKING:
    from tests.hosts.network import Network

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 90.0
"""Seconds for a program on a busy machine."""


class Host:
    """One of a network's hosts."""

    def __init__(self, network: Network, name: str, number: int, folder: Path) -> None:
        """`number` is unique in the network; logs and data go to `folder`."""
        self.name = name
        self.folder = folder
        self.environment: dict[str, str] = {}
        """Beside our own, of all that is started here."""
        self._network = network
        self._number = number
        self._namespaces: Namespaces | None = None
        self._enabled: dict[str, Callable[[], HostProcess]] = {}
        self.services: dict[str, HostProcess] = {}
        """Of those that are started at each boot: since the last one."""

    @property
    def address(self) -> str:
        """The IP address, the same after a boot."""
        from tests.hosts.network import address

        return address(self._number)

    @property
    def up(self) -> bool:
        """Whether it was booted and not killed since."""
        return self._namespaces is not None

    def boot(self) -> None:
        """Begin with what is on disk, and start its services."""
        assert self._namespaces is None
        self._namespaces = Namespaces(self.name, self.folder / "ray")
        self._network.plug(self._number, self._namespaces)
        for name, start in self._enabled.items():
            self.services[name] = start()

    def kill(self) -> None:
        """SIGKILL to all its processes: the kernel still says goodbye to their connections."""
        if self._namespaces is not None:
            self._namespaces.end()
            self._namespaces = None

    def power_off(self) -> None:
        """End it without a word to anybody: a connection to it just goes silent."""
        self.cut()
        self.kill()

    def cut(self) -> None:
        """Pull its cable."""
        self._network.switch_port(self._number, up=False)

    def join(self) -> None:
        """Plug its cable in again."""
        self._network.switch_port(self._number, up=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread's new sockets be this host's."""
        with self._booted.inside():
            yield

    def start(
        self, name: str, *command: str, user: tuple[int, int] | None = None, **environment: str
    ) -> HostProcess:
        """Start a program; its output goes to `<name>.log`."""
        return HostProcess(self, name, command, {**self.environment, **environment}, user)

    def enable(self, name: str, *command: str, **environment: str) -> HostProcess:
        """Start a program now and at each boot, and again whenever it ends."""
        supervisor = (sys.executable, "-I", "-S", service.__file__)
        self._enabled[name] = lambda: self.start(name, *supervisor, *command, **environment)
        self.services[name] = self._enabled[name]()
        return self.services[name]

    def run(self, name: str, *command: str, **environment: str) -> str:
        """Run a program to its end; return what it printed."""
        process = self.start(name, *command, **environment)
        code = process.wait()
        assert code == 0, f"{name} on {self.name}: {code}\n{process.log()}"
        return process.said()

    def processes(self, command: str) -> list[psutil.Process]:
        """Return those with this in their command line or title; no supervisor of theirs."""
        found = []
        for process in self._booted.processes():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:  # it ended
                continue
            if command in line and service.__file__ not in line:
                found.append(process)
        return found

    @property
    def _booted(self) -> Namespaces:
        assert self._namespaces is not None, f"{self.name} is switched off"
        return self._namespaces

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command here."""
        return self._booted.command(ROOT, *command)


def _our_environment() -> dict[str, str]:
    """Return ours without what a Ray that this process has started set for itself alone."""
    ours = ("RAY_", "RAYFOLD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class HostProcess:
    """A program on a host."""

    def __init__(
        self,
        host: Host,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        user: tuple[int, int] | None,
    ) -> None:
        """`user` is the ids of the user and the group that it runs as."""
        self.host = host
        self.name = name
        self._output = host.folder / f"{name}.out"
        self._errors = host.folder / f"{name}.log"
        whole = {**_our_environment(), "PYTHONPATH": str(ROOT), **environment}
        ids = [] if user is None else [f"--setuid={user[0]}", f"--setgid={user[1]}"]
        entering = host.command()
        with self._output.open("wb") as output, self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*entering, *ids, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=whole,
                start_new_session=True,
            )

    def until_said(self, text: str) -> str:
        """Wait until it has printed this; return the line."""
        deadline = time.monotonic() + PATIENCE
        while True:
            code = self._process.poll()
            for line in self.said().splitlines():
                if text in line:
                    return line
            assert code is None, f"{self.name} on {self.host.name} ended: {code}\n{self.log()}"
            assert time.monotonic() < deadline, (
                f"{self.name} did not print {text!r} in time\n{self.log()}"
            )
            time.sleep(0.05)

    def said(self) -> str:
        """Return what it printed so far."""
        return self._output.read_text()

    def log(self) -> str:
        """Return the end of what it wrote to its errors."""
        return self._errors.read_text()[-3000:]

    @property
    def process(self) -> psutil.Process:
        """The program itself, which `nsenter` started and waits for."""
        entering = psutil.Process(self._process.pid)
        deadline = time.monotonic() + PATIENCE
        while not (children := entering.children()):
            assert self.runs, f"{self.name} on {self.host.name} ended\n{self.log()}"
            assert time.monotonic() < deadline, self.name
            time.sleep(0.01)
        return children[0]

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def freeze(self) -> None:
        """Stop it, and all that it has started, as a machine that hangs does."""
        for process in (self.process, *self.process.children(recursive=True)):
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for process in (self.process, *self.process.children(recursive=True)):
            process.send_signal(signal.SIGCONT)
        # `nsenter` stops with what it waits for, and would never notice its end.
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to it alone."""
        self.signal(signal.SIGKILL)
        self.wait()
