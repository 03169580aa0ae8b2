"""What changes on disk while `rayfold dev` runs: the code of the domain, and rayfold.toml.

Of the domain's package that is whatever is below it, also what comes; of code elsewhere the files
that it has run.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Self

from watchfiles import Change, awatch

from deploy.authoring.new import SETTINGS
from deploy.errors import StartError, tell

QUIET = 150
"""Milliseconds without a change, before those until then are one: many files are saved at once."""


def place_of(domain: str) -> Path:
    """Return the file of the domain's module, or the folder of its package; no link to it.

    Of `shop.core` it is that of `shop`: its code may be anywhere below, and finding out by
    importing would run it.

    Raises:
        StartError: there is none.
    """
    top = domain.partition(".")[0]
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # of a module that says nothing of itself
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve()
    raise StartError(f"there is no package {top!r} here: `rayfold new {top}` writes one")


class Changes:
    """What is followed is watched; `wait` returns once something of it has changed."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()
        self._files: dict[Path, set[str]] = {}
        """By their folder."""
        self._watching: dict[asyncio.Task[None], None] = {}
        self._place: Path | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def wait(self) -> None:
        """Return once something changes, or has since `forget`."""
        await self._happened.wait()

    def forget(self) -> None:
        """Wait for later changes alone."""
        self._happened.clear()

    def follow(self, place: Path) -> None:
        """Watch this, if it is there and is not watched already."""
        if place == self._place or not place.exists():
            return
        self._leave()
        self._place = place
        self.follow_files([Path(SETTINGS).absolute(), place])
        if place.is_dir():
            self._watch([place], partial(_is_source, place), deep=True)

    def follow_files(self, files: Iterable[Path]) -> None:
        """Watch these as well, until `follow` is given another place.

        Whoever is watched goes on to be: a change of a moment ago is not lost.
        """
        new: dict[Path, set[str]] = {}
        for file in files:
            if self._place in file.parents:
                continue  # as all of the package is
            # An editor replaces a file: who watches it by itself sees its end, so its folder is.
            folder = file.parent
            if folder not in self._files:
                if not folder.exists():  # it is gone again
                    continue
                self._files[folder] = new[folder] = set()
            self._files[folder].add(str(file))
        if new:

            def wanted(path: str) -> bool:
                return path in new.get(Path(path).parent, ())

            self._watch([*new], wanted, deep=False)

    def _watch(self, folders: list[Path], wanted: Callable[[str], bool], *, deep: bool) -> None:
        async def watch() -> None:
            found = awatch(*folders, watch_filter=None, step=QUIET, recursive=deep)
            try:
                async for changes in found:
                    gone = [each for each in folders if (Change.deleted, str(each)) in changes]
                    self._lose(gone)
                    if gone or any(wanted(path) for _, path in changes):
                        self._happened.set()
            except (OSError, RuntimeError) as error:  # the kernel's limit, say
                names = ", ".join(map(str, folders))
                tell(StartError(f"changes in {names} are not seen any more: {error}"))

        task = asyncio.create_task(watch())
        self._watching[task] = None
        task.add_done_callback(self._watching.pop)

    def _lose(self, folders: Iterable[Path]) -> None:
        """Watch no more what is gone: a folder that is made again is another, also by its inode."""
        for each in folders:
            self._files.pop(each, None)
            if each == self._place:
                self._place = None

    def _leave(self) -> None:
        self._files = {}
        for task in self._watching:
            task.cancel()


def _is_source(package: Path, path: str) -> bool:
    """Whether a file of the package is somebody's: Python and editors leave others beside them."""
    parts = Path(path).relative_to(package).parts
    return not any(part.startswith(".") or part == "__pycache__" for part in parts)
