"""Fields of a command that its reader does not know, because another release sent the command.

An event with an unknown field is still the same fact. A command without one of its fields is
another command: if it were executed silently, its sender would believe that all of it was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""The path of a field in JSON: names, and indexes in lists."""

MOST_PATHS = 1_000
"""The most paths in one answer to the sender of the command."""


def passed_over(sent: Any, read: Any) -> Iterator[Path]:
    """Yield the paths of fields that `sent`, which is decoded JSON, has and `read` has not."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for name, value in sent.items():
            if name not in read:
                yield (name,)
            else:
                yield from ((name, *path) for path in passed_over(value, read[name]))
    elif isinstance(sent, list) and isinstance(read, list):
        if len(sent) != len(read):  # a set, from which duplicates were removed
            yield ()
            return
        for at, pair in enumerate(zip(sent, read, strict=True)):
            yield from ((at, *path) for path in passed_over(*pair))


def shortened(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths; if there are too many, those of the command's top-level fields instead."""
    if len(paths) <= MOST_PATHS:
        return paths
    return [*dict.fromkeys(path[:1] for path in paths)]


def take_out(sent: Any, fields: Iterable[Path]) -> None:
    """Remove fields from decoded JSON, if they are there."""
    for *above, name in fields:
        held = sent
        try:
            for step in above:
                held = held[step]
            del held[name]
        except (LookupError, TypeError):
            continue
