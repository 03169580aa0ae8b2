"""Where in an author's code an error was raised, for error messages."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

_AROUND = sys.stdlib_module_names | {"pydantic"}
"""Modules that may be on the call stack between our code and the author's."""

_PLACE = re.compile(r" \([^()]+, line \d+\)\Z")


def place_of(error: BaseException, package: str = "") -> str:
    """Return the last line of a package in an error's traceback, as ` (views.py, line 7)`.

    Without a `package`, it is the package of the first line that is neither ours (the code that
    catches the error) nor Python's nor pydantic's. Empty if no line is of the package.
    """
    frames = [
        (str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = {__name__.partition(".")[0], *(whose for whose, _, _ in frames[:1])}
    others = (whose for whose, _, _ in frames if whose not in ours | _AROUND)
    wanted = package.partition(".")[0] or next(others, "")
    places = [
        f" ({Path(file).name}, line {line})" for whose, file, line in frames if whose == wanted
    ]
    return "".join(places[-1:])


def shortened(told: str, most: int) -> str:
    """Return an error's text shortened to at most `most` characters, keeping its place."""
    place = found[0] if (found := _PLACE.search(told[-most:])) else ""
    return told.removesuffix(place)[: most - len(place)] + place
