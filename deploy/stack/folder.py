"""The data folder: used by one stack at a time; has the address of its gateway."""

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
"""Files that every stack leaves in its folder, or that are put there to restore a log."""

EVENT_STORE = "eventstore.uri"
"""The file with the address of an embedded event store."""


class InUse(StartError):
    """Another stack is using the folder."""


@contextmanager
def locked(data: Path) -> Iterator[Path]:
    """Lock the folder, created if needed, for this process.

    Raises:
        InUse: another stack is using it.
        StartError: it cannot be created, or is the working folder and has other files: these would
            become inaccessible to other users, and ours would be mixed with them.
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
        for left in (_GATEWAY, EVENT_STORE):  # left by an earlier stack, or a crash
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
        with suppress(OSError):  # for example read-only by now; not worth a traceback
            (data / _GATEWAY).unlink(missing_ok=True)
        lock.release()


def keep_private(data: Path) -> None:
    """Make the folder private to its owner, whatever created it.

    Under root, Postgres runs as another user: that one may pass through, but read nothing.
    """
    data.chmod(0o711 if os.geteuid() == 0 else 0o700)


def announce(data: Path, url: str) -> None:
    """Write the gateway's address for other commands."""
    write_whole(data / _GATEWAY, json.dumps({"url": url}))


def announced(data: Path) -> tuple[int, int] | None:
    """Return what identifies a gateway's announcement; None if there is none.

    A killed gateway leaves its announcement, which stays until the next stack has started.
    """
    try:
        found = (data / _GATEWAY).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def gateway_of(data: Path) -> str:
    """Return the URL of a folder's gateway.

    Raises:
        StartError: no gateway is running, or the folder belongs to another user.
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
