"""Imports the modules of a domain's package, with a sentence for each that cannot be imported."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from pydantic import ValidationError

from rayfold.place_of_error import place_of


def import_all(package: str) -> tuple[list[ModuleType], list[str]]:
    """Return the package's modules, and a sentence for each that cannot be imported."""
    try:
        root = importlib.import_module(package)
    except (Exception, SystemExit) as error:  # a user's code
        return [], [f"cannot import the domain {package!r}: {_told(error, package)}"]
    modules, mistakes = [root], []
    broken: list[str] = []
    found = pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}.", broken.append)
    for info in found:
        try:
            modules.append(importlib.import_module(info.name))
        except (Exception, SystemExit) as error:  # a user's code
            mistakes.append(f"cannot import {info.name}: {_told(error, package)}")
    return modules, mistakes


def _told(error: BaseException, package: str) -> str:
    """Return an error's text and the last line of the domain's code that led to it."""
    told = type(error).__name__
    if isinstance(error, ValidationError):
        each = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in (error.title, *each["loc"]))
        told = f"{where}: {each['msg']}"
    elif lines := str(error).splitlines():
        told = f"{told}: {lines[0]}"
    if isinstance(error, SyntaxError):  # its text has the line already
        return told
    return told + place_of(error, package)
