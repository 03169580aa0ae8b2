"""The entry point of the `rayfold` command line: starts quickly, and can be interrupted at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT
"""The exit code that shells use for it."""


def main() -> None:
    """Run the console script. Ctrl-C ends it silently, at any moment.

    Importing the command line takes a quarter of a second, in which nothing is started that would
    have to be undone. So the process ends at once: no exception is raised in the middle of an
    import, where Python prints and drops one that hits its own bookkeeping.
    """
    _open_standard_streams()
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # otherwise our parent process ignores it
        signal.signal(signal.SIGINT, _leave)
    from deploy.cli.command_line import main as run

    try:
        signal.signal(signal.SIGINT, usual)
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _open_standard_streams() -> None:
    """Open standard streams that the parent process has closed (`2>&-`) to nothing.

    Otherwise the next opened file would get their number, and whatever prints there, such as a
    child, would write into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(nothing, True)
        if getattr(sys, name) is None:  # it was closed when Python started
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)
