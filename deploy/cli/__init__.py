"""The `rayfold` command line: the door to it, which is quick to open and can be left at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT
"""The exit code, as a shell has it."""


def main() -> None:
    """Run the console script. Ctrl-C ends it without a word, at whatever moment it comes.

    Importing the command line takes a quarter of a second, in which nothing is begun that would
    have to be undone. So the process ends there and then: an exception is not raised in the middle
    of an import, where Python prints and forgets one that meets its own bookkeeping.
    """
    _open_standard_streams()
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, _leave)
    from deploy.cli.command_line import main as run

    try:
        signal.signal(signal.SIGINT, usual)
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _open_standard_streams() -> None:
    """Have all three open, to nothing where whoever started us has closed one (`2>&-`).

    The next file that is opened would have its number, and whatever prints there, a child say,
    would write into that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(nothing, True)
        if getattr(sys, name) is None:  # as Python has found it
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)
