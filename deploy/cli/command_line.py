"""The `rayfold` command: its groups of commands, its version, and how it fails.

Imports happen inside the commands: `--help` is to be quick.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import (
    authoring,
    checking,
    counterfactual,
    operating,
    parked,
    processes,
    publications,
    running,
    upgrading,
)
from deploy.errors import StartError, tell

app = typer.Typer(
    help="CQRS and event sourcing on Ray: aggregates as actors, views that scale on their own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(authoring.app)
app.add_typer(running.app)
app.add_typer(operating.app)
app.add_typer(upgrading.app)
app.add_typer(counterfactual.app)
app.add_typer(checking.app)
app.add_typer(parked.app, name="parked", no_args_is_help=True)
app.add_typer(processes.app, name="processes", no_args_is_help=True)
app.add_typer(publications.app, name="publications", no_args_is_help=True)
app.add_typer(processes.schedules, name="schedules", no_args_is_help=True)

_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""A full disk, a limit, a terminal that is gone: where the output went, or a folder of ours."""


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rayfold {version('rayfold')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """See `app`'s help."""


def main() -> None:
    """Run the console script; whatever keeps a command from its work is a line each, and exit 2."""
    try:
        folder = str(Path.cwd())
    except OSError as error:  # a deployment has replaced it, say
        tell(StartError(f"the working folder is not there: {error.strerror}"))
        sys.exit(2)
    # As `python -m` does: a console script has its own folder on the path, not the user's.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a domain, or somebody else's event, says is shown in whatever letters there are.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except StartError as error:
        tell(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        where = "" if error.filename is None else f" {error.filename}"
        sys.stderr.write(f"rayfold: cannot write{where}: {error.strerror}\n")
        # Python writes what is left as it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
