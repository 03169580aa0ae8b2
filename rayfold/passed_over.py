"""Fields of a command that whoever reads it does not have: another release has sent it.

An event says less to code that lacks a field of it, and is the same fact. A command that says less
is another command: done without a word, its sender would take for done what was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""Where a field stands in JSON: names, and places in lists."""

MOST_PATHS = 1_000
"""In one answer to who has sent the command."""


def passed_over(sent: Any, read: Any) -> Iterator[Path]:
    """Return where decoded JSON has fields that what was read of it has not."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for name, value in sent.items():
            if name not in read:
                yield (name,)
            else:
                yield from ((name, *path) for path in passed_over(value, read[name]))
    elif isinstance(sent, list) and isinstance(read, list):
        if len(sent) != len(read):  # of a set: what they differ in is passed over
            yield ()
            return
        for at, pair in enumerate(zip(sent, read, strict=True)):
            yield from ((at, *path) for path in passed_over(*pair))


def shortened(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths, or those of the whole fields of a command where there are too many."""
    if len(paths) <= MOST_PATHS:
        return paths
    return [*dict.fromkeys(path[:1] for path in paths)]


def take_out(sent: Any, fields: Iterable[Path]) -> None:
    """Take fields out of decoded JSON, as far as they are there."""
    for *above, name in fields:
        held = sent
        try:
            for step in above:
                held = held[step]
            del held[name]
        except (LookupError, TypeError):
            continue
