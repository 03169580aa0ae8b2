"""Room in the write-ahead log before it is needed: a sync of a file that grows waits for more.

Syncing overwritten blocks costs only the disk's time. If the file has grown, its new length and
blocks must be written too, which takes twice as long, and waits for kernel threads that may find no
free core. SQLite tolerates trailing zeros: it takes a header or a frame with a wrong checksum for
the log's end (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_PIECE = bytes(1024 * 1024)


def preallocate(wal: Path, size: int) -> None:
    """Extend the file with zeros to `size` bytes, on disk; its present content stays.

    Nothing may write to it meanwhile. If the disk has no room, the space is freed again. A failure
    is only logged: commits then work as without preallocation.
    """
    try:
        descriptor = os.open(wal, os.O_WRONLY)
        try:
            found = os.fstat(descriptor).st_size
            try:
                _write_zeros(descriptor, found, size)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, found)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        log.info("the write-ahead log cannot be preallocated", extra={"error": str(error)})


def _write_zeros(descriptor: int, start: int, end: int) -> None:
    while start < end:
        start += os.pwrite(descriptor, _PIECE[: end - start], start)
