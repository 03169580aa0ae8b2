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
    copying,
    counterfactual,
    operating,
    parked,
    processes,
    publications,
    running,
    upgrading,
)
from deploy.cli.saying import say
from deploy.errors import StartError, tell
from rayfold.errors import RayfoldError

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
app.add_typer(copying.app)
app.add_typer(checking.app)
app.add_typer(parked.app, name="parked", no_args_is_help=True)
app.add_typer(processes.app, name="processes", no_args_is_help=True)
app.add_typer(publications.app, name="publications", no_args_is_help=True)
app.add_typer(processes.schedules, name="schedules", no_args_is_help=True)

TRACEBACK = "RAYFOLD_TRACEBACK"
"""The environment variable that asks for Python's own account of what failed, where it did."""

_OTHERS = {"asyncpg", "grpc", "httpx", "kurrentdbclient", "ray", "redis", "sqlite3"}
"""Packages whose errors say that a server, or what lies between, failed us."""

_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""A full disk, a limit, a terminal that is gone: where the output went, or a folder of ours."""


def _tell_version(wanted: bool) -> None:
    if wanted:
        say(f"rayfold {version('rayfold')}")
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
    except Exception as raised:
        # Of an actor Ray tells where it was called first, and the reason in its last line.
        cause = getattr(raised, "cause", None)
        reason = cause if isinstance(cause, Exception) else raised
        if os.environ.get(TRACEBACK) or not _is_of_others(reason):
            raise  # a mistake of ours: whoever mends it is to see where
        if isinstance(reason, OSError) and reason.errno in _NOT_WRITTEN:
            where = "" if reason.filename is None else f" {reason.filename}"
            tell(StartError(f"cannot write{where}: {reason.strerror}"))
            # Python writes what is left as it ends, and would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            said = str(reason).strip().partition("\n")[0]
            tell(StartError(f"{type(reason).__name__}: {said} ({TRACEBACK}=1 tells where)"))
        sys.exit(2)


def _is_of_others(error: Exception) -> bool:
    """Tell the world that fails, or what a layer of ours says of it, from a mistake of ours."""
    packages = {each.__module__.partition(".")[0] for each in type(error).__mro__}
    return isinstance(error, (OSError, RayfoldError)) or not _OTHERS.isdisjoint(packages)
