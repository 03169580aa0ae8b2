"""A place that processes of one command take one after the other: what each is told and says.

The parent of them has no code of the domain. It holds what outlives a change of code: the socket on
which clients connect, the lock of the data folder, the supervisor's trust.
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
    """A process's own side of it; without a parent nobody is told, and no successor comes."""

    def __init__(self, given: dict[str, Any] | None = None) -> None:
        """`given` is what the parent says; see `deploy.stack.succession`."""
        self._given = given or {}
        self._control = _socket(self._given.get("control"))
        self.listening = _socket(self._given.get("listening"))
        """Bound already, where there is one."""

    @classmethod
    def of_process(cls) -> Seat | None:
        """Return this process's; None where it is no child of such a parent."""
        given = os.environ.pop(VARIABLE, None)
        return None if given is None else cls(json.loads(given))

    @property
    def follows(self) -> bool:
        """Whether another process has the place until this one is ready."""
        return "domain" in self._given

    def settled(self, settings: Settings) -> Settings:
        """Return the settings with what the parent has decided."""
        update = {name: self._given[name] for name in _DECIDED if name in self._given}
        if "data" in self._given:
            update["data"] = Path(self._given["data"])
        return settings.model_copy(update=update)

    async def watch(self, retire: Callable[[], None]) -> None:
        """Call it once a successor has taken over: to answer what was asked, and to end."""
        if self._control is None:
            return
        reader, writer = await asyncio.open_connection(sock=self._control.dup())
        try:
            if await reader.readline():
                retire()
        finally:
            writer.close()

    def ready(self, url: str = "") -> None:
        """Say that it does its work from now on; whoever did it before may end."""
        self._say({"ready": url})

    def taken_down(self) -> None:
        """Say that the stack was taken down: nobody goes on, and nobody is started for it."""
        # The other word is for a parent of a Rayfold before, which knows that one alone.
        self._say({"down": True, "refused": True})

    def wanted(self, release: Release) -> None:
        """Say that another release is to have the place; or that ours was refused, if that is it.

        Whoever has made room for ours is told to go on then.
        """
        message = {"domain": release.domain, "runtime_env": release.runtime_env}
        self._say(message | ({"refused": True} if release.refused else {}))

    def _say(self, message: dict[str, Any]) -> None:
        if self._control is not None:
            try:
                self._control.sendall(json.dumps(message).encode() + b"\n")
            except OSError as error:  # it is gone
                log.warning("whoever gave the place is not told", extra={"error": error})


def _socket(descriptor: int | None) -> socket.socket | None:
    if descriptor is None:
        return None
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)  # not for Ray's processes
    return found
