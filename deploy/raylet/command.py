"""Changing the command with which Ray starts a local raylet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """A change to a command that a raylet is given: the one that begins with the words `before`."""

    option: str
    before: Sequence[str]
    after: Sequence[str]

    def __call__(self, part: str) -> str:
        """Return a part of the raylet's command, changed if it is the one concerned."""
        # Ray quotes them in this way.
        before, after = (
            f"--{self.option}={subprocess.list2cmdline(words)} "
            for words in (self.before, self.after)
        )
        return after + part.removeprefix(before) if part.startswith(before) else part


@contextmanager
def changed(changes: Sequence[Change]) -> Iterator[None]:
    """Apply the changes to a raylet that is started within this context.

    A change that matches nothing is ignored: Ray starts as usual.
    """
    from ray._private import ray_constants, services

    start: Callable[..., Any] = services.start_ray_process

    def start_changed(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            for change in changes:
                command = [change(part) for part in command]
        return start(command, process_type, **options)

    where: Any = services
    where.start_ray_process = start_changed
    try:
        yield
    finally:
        where.start_ray_process = start
