"""Watches for changes on disk during `rayfold dev`: the domain's code, and rayfold.toml.

Everything below the domain's package is watched, including new files; of other code, the files that
it has run.
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
"""Milliseconds without a change after which earlier ones count as one: many files are saved at
once.
"""


def place_of(domain: str) -> Path:
    """Return the file of the domain's module, or the folder of its package, with links resolved.

    For `shop.core` it is that of `shop`: its code may be anywhere below, and importing it to find
    out would run it.

    Raises:
        StartError: there is none.
    """
    top = domain.partition(".")[0]
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # for a module without a spec
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve()
    raise StartError(f"there is no package {top!r} here: `rayfold new {top}` writes one")


class Changes:
    """Watches followed files; `wait` returns once one of them has changed."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()
        self._files: dict[Path, set[str]] = {}
        """The watched files by folder."""
        self._watching: dict[asyncio.Task[None], None] = {}
        self._place: Path | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def wait(self) -> None:
        """Return once something changes, or if it has since `forget`."""
        await self._happened.wait()

    def forget(self) -> None:
        """Ignore earlier changes."""
        self._happened.clear()

    def follow(self, place: Path) -> None:
        """Watch a file or folder, if it exists and is not watched yet."""
        if place == self._place or not place.exists():
            return
        self._leave()
        self._place = place
        self.follow_files([Path(SETTINGS).absolute(), place])
        if place.is_dir():
            self._watch([place], partial(_is_source, place), deep=True)

    def follow_files(self, files: Iterable[Path]) -> None:
        """Watch these files as well, until `follow` gets another place.

        Files that are watched already stay so: a recent change is not lost.
        """
        new: dict[Path, set[str]] = {}
        for file in files:
            if self._place in file.parents:
                continue  # as everything in the package is
            # Editors replace files: a watched file would only be seen to end, so its folder is
            # watched.
            folder = file.parent
            if folder not in self._files:
                if not folder.exists():  # it has been removed again
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
            except (OSError, RuntimeError) as error:  # for example the kernel's limit
                names = ", ".join(map(str, folders))
                tell(StartError(f"changes in {names} are no longer seen: {error}"))

        task = asyncio.create_task(watch())
        self._watching[task] = None
        task.add_done_callback(self._watching.pop)

    def _lose(self, folders: Iterable[Path]) -> None:
        """Stop watching removed folders: a new folder of the same name has another inode."""
        for each in folders:
            self._files.pop(each, None)
            if each == self._place:
                self._place = None

    def _leave(self) -> None:
        self._files = {}
        for task in self._watching:
            task.cancel()


def _is_source(package: Path, path: str) -> bool:
    """Return whether a file of the package is source code; Python and editors leave others."""
    parts = Path(path).relative_to(package).parts
    return not any(part.startswith(".") or part == "__pycache__" for part in parts)
