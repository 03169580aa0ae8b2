"""Finds process managers that never complete a process.

Some are meant to run forever. Calls of a handler within its own package are followed; functions
that it finds at run time, in a table or by an import for example, are not: so this is a warning,
not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from rayfold import Complete, ProcessDefinition, Registry
from rayfold.purity import named_by


def endless(registry: Registry) -> Iterator[str]:
    """Yield the class of each process manager none of whose handlers names `Complete`."""
    for process in registry.processes.values():
        if not _completes(process):
            yield process.model.__qualname__


def _completes(process: ProcessDefinition) -> bool:
    folds = [fold.apply for fold in process.handlers.values()]
    to_see: list[Callable[..., Any]] = [
        *(*folds, *process.timeouts.values(), *process.rejections.values()),
        *([process.on_abort] if process.on_abort else []),
    ]
    package = process.model.__module__.partition(".")[0]
    seen: set[int] = set()
    while to_see:
        function = to_see.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for _, value in named_by(function):
            if value is Complete or isinstance(value, Complete):
                return True
            if isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
                to_see.append(value)
    return False
