"""Lines for whoever runs a command: what others have written in them is seen, and does nothing."""

from __future__ import annotations

import typer

from rayfold.foreign_text import on_one_line


def say(*lines: str, err: bool = False) -> None:
    """Print lines, to standard error if `err`.

    Ids, errors and data of events may have what a terminal takes for orders of its own, or what
    would be a line of its own.
    """
    for line in lines:
        typer.echo(on_one_line(line), err=err)
