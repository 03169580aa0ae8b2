"""The command by which Ray starts a raylet here, with other words for what it is to start."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """Of one of the commands that a raylet is given, which begins with the words `before`."""

    option: str
    before: Sequence[str]
    after: Sequence[str]

    def __call__(self, part: str) -> str:
        """Return a part of the raylet's command with the change, if it is concerned."""
        # Ray quotes them so.
        before, after = (
            f"--{self.option}={subprocess.list2cmdline(words)} "
            for words in (self.before, self.after)
        )
        return after + part.removeprefix(before) if part.startswith(before) else part


@contextmanager
def changed(changes: Sequence[Change]) -> Iterator[None]:
    """Let a raylet that is started inside be told otherwise.

    A change that fits nothing is none: Ray is started as it would be.
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
