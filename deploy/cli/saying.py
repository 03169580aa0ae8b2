"""Lines for whoever runs a command: what others have written in them is seen, and does nothing."""

from __future__ import annotations

import typer

from rayfold.foreign_text import shown


def say(line: str, *, err: bool = False) -> None:
    """Print a line, to standard error if `err`.

    Ids, errors and data of events may have what a terminal takes for orders of its own.
    """
    typer.echo(shown(line), err=err)
