"""Where in an author's code an error comes from: what is told of one says so."""

from __future__ import annotations

import traceback
from pathlib import Path


def place_of(error: BaseException, package: str = "") -> str:
    """Return the last line of a package that led to an error, as ` (views.py, line 7)`.

    Without a `package`, it is the first that is not ours: who catches the error is. Empty where no
    line is the package's.
    """
    frames = [
        (str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = {__name__.partition(".")[0], *(whose for whose, _, _ in frames[:1])}
    others = (whose for whose, _, _ in frames if whose not in ours)
    wanted = package.partition(".")[0] or next(others, "")
    places = [
        f" ({Path(file).name}, line {line})" for whose, file, line in frames if whose == wanted
    ]
    return "".join(places[-1:])
