"""`rayfold dev`: a stack that restarts when its author changes the code."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.authoring.development import loading
from deploy.authoring.development.actor_logs import ActorLogs
from deploy.authoring.development.changes import Changes, place_of
from deploy.authoring.development.served import Served, child
from deploy.errors import StartError, tell
from deploy.stack.folder import announced
from deploy.stack.settings import load
from rayfold.runtime.ending_signals import ending_signals


async def dev(flags: dict[str, Any], up: list[str]) -> int:
    """Serve, and restart with each change, until told to end; return the exit code.

    `flags` are those of `rayfold up`, and `up` is that command with them, for this Python.

    Raises:
        StartError: there is nothing to watch: the settings are wrong, or there is no domain.
    """
    settings = load(**flags)
    place_of(settings.domain)
    serving = asyncio.ensure_future(_serve(flags, up, settings.data))
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, _cancel_once, serving)
    with suppress(asyncio.CancelledError):
        await serving
    return 0


def _cancel_once(task: asyncio.Future[None]) -> None:
    """Cancel a task once; a second cancellation would interrupt its cleanup."""
    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    task.cancel()


async def _serve(flags: dict[str, Any], up: list[str], data: Path) -> None:
    stack, left = Served(up), announced(data)
    telling = asyncio.ensure_future(ActorLogs(data).follow())
    try:
        async with Changes() as changes:
            while True:
                changes.forget()
                _follow(changes, flags)
                sound = await _until(changes, _is_sound(flags, changes))
                if sound:
                    _say("starting")
                    await stack.stop()
                    with suppress(StartError):  # they are wrong again: the next check reports it
                        data = load(**flags).data
                    left = announced(data)
                    await stack.start()
                elif sound is not None:
                    # A stack that accepts requests has announced its address: by then all of it has
                    # read the code.
                    if stack.runs and announced(data) in (None, left):
                        _say("the start is stopped: it may have read unfinished code")
                        await stack.stop()
                    before = "; the previous code is still served" if stack.runs else ""
                    _say(f"waiting for the next change{before}")
                while (code := await _until(changes, stack.ended())) is not None:
                    _say(f"the stack ended with exit code {code}: waiting for the next change")
                _say("a change")
    finally:
        await stack.stop()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def _follow(changes: Changes, flags: dict[str, Any]) -> None:
    """Watch the domain that the settings name now; if they name none, keep watching the old one."""
    with suppress(StartError, OSError):  # errors are reported when it is loaded
        changes.follow(place_of(load(**flags).domain))


async def _is_sound(flags: dict[str, Any], changes: Changes) -> bool:
    """Check settings and domain in a process that prints errors, and ends if this is cancelled.

    All code that this runs, wherever it is, is watched from then on.
    """
    with tempfile.TemporaryDirectory(prefix="rayfold-dev-") as folder:
        noted = Path(folder, "files")
        process = await child("-m", loading.__name__, json.dumps(flags), str(noted))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        changes.follow_files(_noted(noted))
    if code not in (0, 2):
        tell(StartError(f"loading the domain ended with exit code {code}"))
    return code == 0


def _noted(file: Path) -> list[Path]:
    """Return the files that `loading` has recorded; none if it was interrupted."""
    with suppress(OSError, ValueError):
        return [Path(each) for each in json.loads(file.read_text(encoding="utf-8"))]
    return []


async def _until(changes: Changes, work: Awaitable[Any]) -> Any:
    """Return the result of the work; if a change comes first, cancel the work and return None."""
    working = asyncio.ensure_future(work)
    changing = asyncio.ensure_future(changes.wait())
    try:
        await asyncio.wait([working, changing], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, changing):
            task.cancel()
        await asyncio.gather(working, changing, return_exceptions=True)


def _say(line: str) -> None:
    sys.stderr.write(f"dev: {line}\n")
    sys.stderr.flush()
