"""Text from other systems, made safe to show to people."""

from __future__ import annotations


def shown(value: object) -> str:
    """Return the text with invisible characters escaped: none moves, hides or reorders others.

    Terminal control sequences are escaped too. Line breaks stay.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def on_one_line(value: object) -> str:
    """Return it as `shown`, on one line: what others have written makes no line of its own."""
    return shown(value).replace("\n", "\\n")
