"""Where in an author's code an error was raised, for error messages."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

_AROUND = sys.stdlib_module_names | {"pydantic"}
"""What may stand between us and the author: a decorator, the making of a value."""

_PLACE = re.compile(r" \([^()]+, line \d+\)\Z")


def place_of(error: BaseException, package: str = "") -> str:
    """Return the last line of a package that led to an error, as ` (views.py, line 7)`.

    Without a `package`, it is the first that is not ours, as who catches the error is, and neither
    Python's nor pydantic's. Empty where no line is the package's.
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
    """Return what is told of an error in at most so many characters, with its place."""
    place = found[0] if (found := _PLACE.search(told[-most:])) else ""
    return told.removesuffix(place)[: most - len(place)] + place
