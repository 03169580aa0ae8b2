"""A process's connection to the parent that runs a command's processes one after the other.

The parent has no code of the domain. It holds what outlives a change of code: the clients'
listening socket, the lock of the data folder, and the place that a supervisor watches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.stack.release import Release
from deploy.stack.settings import Settings

log = logging.getLogger(__name__)

VARIABLE = "_RAYFOLD_SEAT"

_DECIDED: tuple[str, ...] = ("domain", "runtime_env")


class Seat:
    """The process's side of it; without a parent, messages go nowhere, and no successor comes."""

    def __init__(self, given: dict[str, Any] | None = None) -> None:
        """`given` is the parent's message; see `deploy.stack.succession`."""
        self._given = given or {}
        self._control = _socket(self._given.get("control"))
        self.listening = _socket(self._given.get("listening"))
        """The bound socket, if there is one."""

    @classmethod
    def of_process(cls) -> Seat | None:
        """Return this process's seat; None if it has no such parent."""
        given = os.environ.pop(VARIABLE, None)
        return None if given is None else cls(json.loads(given))

    @property
    def follows(self) -> bool:
        """Whether another process does the work until this one is ready."""
        return "domain" in self._given

    def settled(self, settings: Settings) -> Settings:
        """Return the settings with the parent's decisions applied."""
        update = {name: self._given[name] for name in _DECIDED if name in self._given}
        if "data" in self._given:
            update["data"] = Path(self._given["data"])
        return settings.model_copy(update=update)

    async def watch(self, retire: Callable[[], None]) -> None:
        """Call `retire` once a successor has taken over, to answer pending requests and end."""
        if self._control is None:
            return
        reader, writer = await asyncio.open_connection(sock=self._control.dup())
        try:
            if await reader.readline():
                retire()
        finally:
            writer.close()

    def ready(self, url: str = "") -> None:
        """Tell the parent that this process does the work from now on; its predecessor may end."""
        self._say({"ready": url})

    def taken_down(self) -> None:
        """Tell the parent that the stack was taken down: it must not start another process."""
        # The other key is for a parent of an older Rayfold, which only knows that one.
        self._say({"down": True, "refused": True})

    def wanted(self, release: Release) -> None:
        """Tell the parent that another release is wanted; or that ours was refused, if it is ours.

        In that case the predecessor is told to go on.
        """
        message = {"domain": release.domain, "runtime_env": release.runtime_env}
        self._say(message | ({"refused": True} if release.refused else {}))

    def _say(self, message: dict[str, Any]) -> None:
        if self._control is not None:
            try:
                self._control.sendall(json.dumps(message).encode() + b"\n")
            except OSError as error:  # the parent is gone
                log.warning("the parent process could not be told", extra={"error": error})


def _socket(descriptor: int | None) -> socket.socket | None:
    if descriptor is None:
        return None
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)  # not inherited by Ray's processes
    return found
