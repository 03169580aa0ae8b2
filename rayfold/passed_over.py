"""Fields of a command that whoever reads it does not have: another release has sent it.

An event says less to code that lacks a field of it, and is the same fact. A command that says less
is another command: done without a word, its sender would take for done what was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Path = tuple[str | int, ...]
"""Where a field stands in JSON: names, and places in lists."""


def passed_over(sent: Any, read: Any) -> Iterator[Path]:
    """Return where decoded JSON has fields that what was read of it has not."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for name, value in sent.items():
            if name not in read:
                yield (name,)
            else:
                yield from ((name, *path) for path in passed_over(value, read[name]))
    elif isinstance(sent, list) and isinstance(read, list):
        for at, pair in enumerate(zip(sent, read, strict=False)):
            yield from ((at, *path) for path in passed_over(*pair))


def take_out(sent: Any, fields: Iterable[Path]) -> None:
    """Take fields out of decoded JSON, as far as they are there."""
    for *above, name in fields:
        held = sent
        try:
            for step in above:
                held = held[step]
            del held[name]
        except (LookupError, TypeError):  # it stands in what is personal, say, which is marked
            continue
