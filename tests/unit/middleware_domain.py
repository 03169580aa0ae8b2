"""The reference domain, or another, with middleware that a test brings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

from rayfold import Middleware, Registry


def with_middleware(*classes: type[Middleware], package: str = "domain") -> Registry:
    """Return the domain as if one of its modules declared these."""
    root = importlib.import_module(package)
    found = pkgutil.walk_packages(root.__path__, f"{package}.")
    modules = [root, *(importlib.import_module(each.name) for each in found)]
    brought = ModuleType("brought")
    for each in classes:
        each.__module__ = brought.__name__
        for member in vars(each).values():
            if inspect.isfunction(member):
                member.__module__ = brought.__name__
        setattr(brought, each.__name__, each)
    return Registry([*modules, brought])
