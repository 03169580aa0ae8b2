"""The data folder: created on demand, and owned by one process at a time."""

import fcntl
import os
from pathlib import Path


class FolderInUseError(Exception):
    """Another server works on this data folder. Stop it, or give another folder."""


class DataFolder:
    """Holds the folder's lock until closed; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise FolderInUseError(f"the data folder {path} is in use by another server") from error

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "events.sqlite"

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)
