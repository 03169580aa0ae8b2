"""The reference domain, or another, with middleware that a test brings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from actors.local import LocalRuntime
from domain.inventory.stock import ReceiveStock
from eventstore.memory import MemoryLog
from rayfold import Command, CommandContext, Middleware, ProceedCommand, Registry

TEA = ReceiveStock(sku="tea", quantity=2)


class Around(Middleware):
    """A base, which is nothing by itself."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Any:
        return await proceed(command)


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


def runtime(*classes: type[Middleware], log: MemoryLog | None = None) -> LocalRuntime:
    """Return the reference domain with these, in this process."""
    return LocalRuntime(with_middleware(*classes), log)


async def recorded(of: LocalRuntime, stream: str) -> list[str]:
    """Return what the events of a stream say."""
    return [raw.data.decode() async for raw in of.log.read_stream(stream)]
