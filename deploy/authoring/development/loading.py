"""Load the settings and the domain and print errors; run as a module, by `dev`.

This is a process of its own: Python imports a module once, and a broken one may do anything. It
records whose code was run, so that changes of it are noticed too.
"""

from __future__ import annotations

import json
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.authoring.catalogue.checking import check
from deploy.authoring.catalogue.lock import FILE, catalogue_of, read
from deploy.errors import StartError, tell
from deploy.stack.settings import load
from rayfold import DomainError, Registry
from rayfold.runtime.middleware_layers import DomainMiddleware

_INSTALLED = [
    *(sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib", "platlib")),
    site.getusersitepackages(),
]
"""Folders that are not changed while writing a domain."""


def main(flags: dict[str, Any], noted: Path) -> int:
    """Print errors, a line each; return 2 if there are any, or 0.

    `noted` gets the files of the code, as JSON.
    """
    ran: set[Any] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        # A failed module is not in `sys.modules` afterwards, nor is the one that imports it.
        if event == "exec":
            ran.add(getattr(arguments[0], "co_filename", ""))
        elif event == "compile":
            ran.add(arguments[1])

    sys.addaudithook(note)
    try:
        return _load(flags)
    finally:
        noted.write_text(json.dumps(_files(ran)), encoding="utf-8")


def _files(ran: Iterable[Any]) -> list[str]:
    """Return the files of the domain's author; code may have no file."""
    files = {Path(each).resolve() for each in ran if isinstance(each, str) and Path(each).is_file()}
    return [str(each) for each in files if not any(map(each.is_relative_to, _INSTALLED))]


def _load(flags: dict[str, Any]) -> int:
    try:
        settings = load(**flags)
        registry = Registry.load(settings.domain, tenants=settings.tenants)
        DomainMiddleware(registry)
    except DomainError as error:
        tell(StartError(*error.mistakes))
        return 2
    except StartError as error:
        tell(error)
        return 2
    _tell_of_old_events(registry)
    return 0


def _tell_of_old_events(registry: Registry) -> None:
    """Print what `rayfold check` would refuse; the log may have no such events."""
    try:
        lock = read(Path(FILE))
    except StartError as error:
        tell(error)
        return
    for broken in check(registry, lock, catalogue_of(registry)).broken if lock else ():
        sys.stderr.writelines(f"dev: {line}\n" for line in broken.lines())


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), Path(sys.argv[2])))
