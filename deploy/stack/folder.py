"""The data folder: locked by one stack at a time, with the address that it listens on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from deploy.errors import StartError
from deploy.stack.whole_file import write_whole
from eventstore.embedded.storage.foreign_folder import foreign

_GATEWAY = "gateway.json"

_OURS = ("lock", _GATEWAY, "eventstore/events.sqlite")
"""What each stack has left in its folder; and what somebody puts there who restores a log."""

EVENT_STORE = "eventstore.uri"
"""Where the store is that a stack has started itself."""


class InUse(StartError):
    """Another stack has the folder."""


@contextmanager
def locked(data: Path) -> Iterator[Path]:
    """Take the folder, made if need be, for this process alone.

    Raises:
        InUse: another stack has it.
        StartError: it cannot be made, or is the working folder and has somebody's files: that
            would be closed to all others, and hold our files between theirs.
    """
    lock = FileLock(data / "lock", timeout=0)
    try:
        data.mkdir(parents=True, exist_ok=True)
        if (file := foreign(data, _OURS)) is not None:
            raise StartError(
                f"the data folder {data} has other files in it, like {file}: give --data a folder"
                " of its own"
            )
        lock.acquire()
        keep_private(data)
        for left in (_GATEWAY, EVENT_STORE):  # by an earlier stack, or a crash
            (data / left).unlink(missing_ok=True)
    except Timeout as error:
        raise InUse(
            f"the data folder {data} is in use by another rayfold up: stop that one, "
            "or give another --data"
        ) from error
    except OSError as error:
        lock.release()
        raise StartError(f"the data folder {data} cannot be used: {error}") from error
    try:
        yield data.resolve()
    finally:
        with suppress(OSError):  # read-only by now, say; that ends in no traceback
            (data / _GATEWAY).unlink(missing_ok=True)
        lock.release()


def keep_private(data: Path) -> None:
    """Let nobody but the owner look into the folder, whatever made it.

    Postgres runs as a user of its own when we are root: it may pass through, and see no more.
    """
    data.chmod(0o711 if os.geteuid() == 0 else 0o700)


def announce(data: Path, url: str) -> None:
    """Tell other commands where the gateway of this folder is."""
    write_whole(data / _GATEWAY, json.dumps({"url": url}))


def announced(data: Path) -> tuple[int, int] | None:
    """Return what tells one gateway's announcement from another's; None if there is none.

    One that was killed leaves its own, which stands until the next stack has begun.
    """
    try:
        found = (data / _GATEWAY).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def gateway_of(data: Path) -> str:
    """Return where the gateway of a folder is.

    Raises:
        StartError: none is running, or the folder is another user's.
    """
    try:
        return str(json.loads((data / _GATEWAY).read_text())["url"])
    except PermissionError as error:
        raise StartError(
            f"the data folder {data} cannot be read: {error.strerror}: be the user who runs it,"
            " or give --url"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartError(
            f"no gateway is running on {data}: start one with `rayfold up`, or give --data"
        ) from error
