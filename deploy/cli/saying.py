"""Prints lines: control characters in text of others are shown and have no effect."""

from __future__ import annotations

import typer

from rayfold.foreign_text import on_one_line


def say(*lines: str, err: bool = False) -> None:
    """Print lines, to standard error if `err`.

    Ids, errors and data of events may contain terminal control sequences or line breaks.
    """
    for line in lines:
        typer.echo(on_one_line(line), err=err)
