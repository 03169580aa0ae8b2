"""Text that others may have written, for people to look at."""

from __future__ import annotations


def shown(value: object) -> str:
    """Return a text whose every character is seen: none moves, hides or reorders others.

    Nor does any tell a terminal to do something. Lines stay lines.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )
