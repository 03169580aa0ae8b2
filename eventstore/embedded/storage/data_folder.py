"""The data folder: made on demand, its owner's alone, and one process's at a time."""

import fcntl
import os
from pathlib import Path

from eventstore.embedded.storage.foreign_folder import foreign

_LOCK = "lock"

_DATABASE = "events.sqlite"


class ForeignFolderError(Exception):
    """The data folder has foreign files. Give the server a folder of its own."""


class FolderInUseError(Exception):
    """Another server uses this data folder. Stop it, or give another folder."""


class DataFolder:
    """Holds the folder's lock until closed; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if (other := foreign(path, (_LOCK, _DATABASE))) is not None:
            raise ForeignFolderError(f"the data folder {path} has other files in it, like {other}")
        path.chmod(0o700)
        self._fd = _private(path / _LOCK)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise FolderInUseError(f"the data folder {path} is in use by another server") from error
        # Created before SQLite does it, because the WAL gets the file's mode.
        os.close(_private(self.database))
        for file in path.glob(f"{self.database.name}-*"):
            file.chmod(0o600)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / _DATABASE

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)


def _private(file: Path) -> int:
    """Open a file, created if needed, that only its owner can read."""
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(opened, 0o600)
    return opened
