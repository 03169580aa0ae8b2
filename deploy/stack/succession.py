"""The parent process of a command: it starts the first child, and a successor when code changes.

A Python process cannot change its code. So a controller or a gateway is a child process, and the
next one is started beside it with the wanted release; once that is ready, the old one is told to
answer pending requests and end. The parent imports no domain and no Ray.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from deploy.stack import folder, launch
from deploy.stack.seat import VARIABLE
from rayfold.runtime.ending_signals import ending_signals

log = logging.getLogger(__name__)

RETIREMENT = 60.0
"""Seconds within which a child that was told to end must do so."""

PAUSES = (2.0, 5.0, 10.0, 30.0)
"""Seconds before the second, third, … attempt to start a release's successor; the last value for
all others.
"""


class _Child:
    """One process of the command; its messages go into its parent's queue."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, control: socket.socket
    ) -> None:
        self.name = name
        self.process = process
        self._control = control
        self.listening: asyncio.Task[None] | None = None

    async def listen(self, heard: asyncio.Queue[tuple[_Child, dict[str, Any]]]) -> None:
        """Forward its messages, and finally its end."""
        reader, writer = await asyncio.open_connection(sock=self._control)
        with suppress(ConnectionError):  # it ended before it read the message
            while line := await reader.readline():
                heard.put_nowait((self, json.loads(line)))
        code = await self.process.wait()
        writer.close()
        heard.put_nowait((self, {"ended": code}))

    def retire(self) -> None:
        """Tell the child that a successor has taken over."""
        with suppress(OSError):  # it has ended
            self._control.send(b"{}\n")

    def signal(self, number: signal.Signals) -> None:
        """Send the child a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Succession:
    """Runs a command in one process after another."""

    def __init__(
        self, command: Sequence[str], data: Path | None, listening: socket.socket | None
    ) -> None:
        """`command` is run by this interpreter; `data` is locked by this process; see `Seat`."""
        self._command = command
        self._data = data
        self._listening = listening
        self._heard: asyncio.Queue[tuple[_Child, dict[str, Any]]] = asyncio.Queue()
        self._children: set[_Child] = set()
        self._current: _Child | None = None
        self._successor: _Child | None = None
        self._dismissed = False
        self._tried: dict[str, Any] = {}
        """The release for which the last successor was started."""
        self._failures = 0
        self._not_before = 0.0
        self._stopping = False

    async def run(self) -> int:
        """Return the exit code of the last process, when it ends without a successor."""
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, self._stop)
        self._current = await self._start({})
        code = 0
        while self._children:
            child, message = await self._heard.get()
            if "ended" in message:
                self._children.discard(child)
                code = self._ended(child, message["ended"], code)
            elif "ready" in message:
                self._is_ready(child, message["ready"])
            elif "down" in message:
                self._end_others(child)
            elif "domain" not in message:  # perhaps from a newer Rayfold: parents are not upgraded
                log.warning("a process sent an unknown message", extra={"said": message})
            elif child is self._current:
                # Otherwise the next one would end at once, as this one does.
                if "refused" not in message:
                    await self._succeed(message)
            elif child is self._successor and not self._dismissed:
                # It may never be ready, if its release cannot run: it makes room for the next.
                log.warning("a successor is no longer wanted", extra={"pid": child.process.pid})
                self._dismissed = True
                child.signal(signal.SIGTERM)
        if self._stopping and code == -signal.SIGTERM:
            return 0  # it had not started far enough to answer that
        return code if code >= 0 else 128 - code  # ended by a signal: the code that shells use

    def _stop(self) -> None:
        self._end_others(None)

    def _end_others(self, ending: _Child | None) -> None:
        """Stop all children except one that ends by itself; start no more."""
        self._stopping = True
        for child in self._children:
            if child is not ending:
                child.signal(signal.SIGTERM)

    async def _succeed(self, wanted: dict[str, Any]) -> None:
        """Start a successor, unless there is one, or the last one for the same was too recent."""
        if self._stopping or self._successor is not None or len(self._children) > 1:
            return
        if wanted != self._tried:
            self._failures, self._not_before = 0, 0.0
        if time.monotonic() >= self._not_before:
            log.warning("another release is wanted", extra={"domain": wanted["domain"]})
            self._tried = wanted
            try:
                self._successor = await self._start(wanted)
            except OSError as error:  # no memory or no descriptor is left
                pause = self._put_off()
                log.error("no successor can be started", extra={"error": error, "pause": pause})

    def _is_ready(self, child: _Child, url: str) -> None:
        if url and self._data is not None:
            try:
                folder.announce(self._data, url)
            except OSError as error:  # for example a full disk; it serves all the same
                log.warning(
                    "the gateway's URL could not be written to the data folder",
                    extra={"error": error},
                )
        if child is self._successor:
            assert self._current is not None
            self._current.retire()
            asyncio.get_running_loop().call_later(RETIREMENT, self._current.signal, signal.SIGKILL)
            self._current, self._successor = child, None
            self._failures, self._dismissed = 0, False
            log.warning("a successor has taken over", extra={"pid": child.process.pid})

    def _ended(self, child: _Child, code: int, before: int) -> int:
        """Handle a child's end; return the exit code so far."""
        if child is self._successor:
            self._successor = None
            # Also after a dismissed one: if the host has other code than wanted, the started
            # process reports that, and so will the next.
            pause = self._put_off()
            if not self._dismissed:
                log.error("a successor does not start", extra={"code": code, "pause": pause})
            self._dismissed = False
            return before
        if child is self._current and self._successor is not None:
            # Its work has been taken over already, as a controller's lease is.
            self._current, self._successor = self._successor, None
            self._dismissed = False
            return before
        return code if child is self._current else before

    def _put_off(self) -> float:
        """Delay the next attempt, longer each time; return the delay in seconds."""
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._not_before = time.monotonic() + pause
        return pause

    async def _start(self, decided: dict[str, Any]) -> _Child:
        taken = {child.name for child in self._children}
        name = next(each for each in ("a", "b") if each not in taken)
        ours, theirs = socket.socketpair()
        given = {**decided, "control": theirs.fileno()}
        if self._data is not None:
            given["data"] = str(self._data / name)  # two of them may run at the same time
        passed = [theirs.fileno()]
        if self._listening is not None:
            given["listening"] = self._listening.fileno()
            passed.append(self._listening.fileno())
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__),
                *(str(each) for each in (signal.SIGKILL.value, os.getpid(), -1, -1)),
                *(sys.executable, *self._command),
                env={**os.environ, VARIABLE: json.dumps(given)},
                pass_fds=passed,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        child = _Child(name, process, ours)
        child.listening = asyncio.create_task(child.listen(self._heard))
        self._children.add(child)
        if self._stopping:  # requested when there was no child to tell
            child.signal(signal.SIGTERM)
        return child


def hold(
    command: Sequence[str], data: Path | None = None, listening: socket.socket | None = None
) -> int:
    """Run the command's processes one after the other; return the last exit code.

    Raises:
        StartError: another process has locked the data folder.
    """
    with nullcontext() if data is None else folder.locked(data) as locked:
        return asyncio.run(Succession(command, locked, listening).run())
