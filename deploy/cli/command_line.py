"""The `rayfold` command: its groups of commands, its version, and how it fails.

Imports happen inside the commands, to keep `--help` quick.
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
"""The environment variable that makes failures print Python's traceback."""

_OTHERS = {"asyncpg", "grpc", "httpx", "kurrentdbclient", "ray", "redis", "sqlite3"}
"""Packages whose errors mean that a server or the network failed."""

_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of the machine: a full disk, a limit, a closed terminal, for output or for our folders."""


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
    """Run the console script; failures print a line each, and exit with 2."""
    try:
        folder = str(Path.cwd())
    except OSError as error:  # for example replaced by a deployment
        tell(StartError(f"the working folder does not exist: {error.strerror}"))
        sys.exit(2)
    # As with `python -m`: a console script has its own folder on the path, not the user's.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Output with text of a domain, or of another client's event, must not fail on characters
        # that the terminal lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            status = app(prog_name="rayfold", standalone_mode=False)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except typer.TyperException as error:
        # A wrong use, which typer would tell in a box of several lines. Nothing but a command's
        # group has no message: its help has been printed.
        if said := error.format_message():
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "rayfold"
            tell(StartError(f"{said.rstrip('.')}: see {command} --help"))
        sys.exit(2)
    except typer.Abort:  # of a question
        tell(StartError("nothing was done"))
        sys.exit(1)
    except StartError as error:
        tell(error)
        sys.exit(2)
    except Exception as raised:
        # For an actor, Ray gives the place of the first call, and the reason in its last line.
        cause = getattr(raised, "cause", None)
        reason = cause if isinstance(cause, Exception) else raised
        if os.environ.get(TRACEBACK) or not _is_of_others(reason):
            raise  # a bug of ours: its traceback is needed
        if isinstance(reason, OSError) and reason.errno in _NOT_WRITTEN:
            where = "" if reason.filename is None else f" {reason.filename}"
            tell(StartError(f"cannot write{where}: {reason.strerror}"))
            # Python flushes the rest as it ends, and would report the error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            said = str(reason).strip().partition("\n")[0]
            tell(StartError(f"{type(reason).__name__}: {said} ({TRACEBACK}=1 tells where)"))
        sys.exit(2)
    sys.exit(status)


def _is_of_others(error: Exception) -> bool:
    """Return whether an error is the environment's, or a layer's report, and not a bug of ours."""
    packages = {each.__module__.partition(".")[0] for each in type(error).__mro__}
    return isinstance(error, (OSError, RayfoldError)) or not _OTHERS.isdisjoint(packages)
