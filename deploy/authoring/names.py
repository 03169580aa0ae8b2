"""Which names a domain's package may have."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys

from deploy.errors import StartError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_FORM = "use a letter, then letters, digits and _, at most 40 characters"

_OURS = ("rayfold", "tests")
"""Our packages, and the folder of the package's tests."""


def check(name: str) -> None:
    """Refuse a name that Python could not import.

    Raises:
        StartError: the message says why, and for an almost valid name how to write it.
    """
    if not _NAME.fullmatch(name):
        better = re.sub(r"[-. ]", "_", name)
        hint = f"write {better}" if _NAME.fullmatch(better) else _FORM
        raise StartError(f"{name!r} is not a package name: {hint}")
    if keyword.iskeyword(name):
        raise StartError(f"{name!r} is a reserved word of Python: choose another name")


def check_free(name: str) -> None:
    """Refuse the name of something that exists, which the package would hide.

    Raises:
        StartError: the message says what it is.
    """
    if name in sys.stdlib_module_names:
        raise StartError(f"{name!r} is a module of Python's standard library: choose another name")
    if name in _OURS or importlib.util.find_spec(name) is not None:
        raise StartError(f"{name!r} is the name of an installed package: choose another name")
