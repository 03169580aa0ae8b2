"""The modules of a domain's package, imported: with a sentence for each that cannot be."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from pydantic import ValidationError


def import_all(package: str) -> tuple[list[ModuleType], list[str]]:
    """Return the package's modules, and a sentence for each that cannot be imported."""
    try:
        root = importlib.import_module(package)
    except (Exception, SystemExit) as error:  # a user's code
        return [], [f"cannot import the domain {package!r}: {_told(error)}"]
    modules, mistakes = [root], []
    broken: list[str] = []
    found = pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}.", broken.append)
    for info in found:
        try:
            modules.append(importlib.import_module(info.name))
        except (Exception, SystemExit) as error:  # a user's code
            mistakes.append(f"cannot import {info.name}: {_told(error)}")
    return modules, mistakes


def _told(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        each = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in (error.title, *each["loc"]))
        return f"{where}: {each['msg']}"
    first = str(error).splitlines()[:1]
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
