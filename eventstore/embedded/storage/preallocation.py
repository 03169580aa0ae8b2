"""Room in the write-ahead log before it is needed: a sync of a file that grows waits for more.

To sync what was written over costs the disk alone. Where the file has grown, its new length and
blocks have to be on disk too, which takes twice as long, and waits for threads of the kernel that
may find no core. SQLite lets a log of zeros be: it takes a header or a frame that does not add up
for the log's end (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_PIECE = bytes(1024 * 1024)


def preallocate(wal: Path, size: int) -> None:
    """Fill the file up with zeros to `size` bytes, on disk; what it holds already stays.

    Nobody may write to it meanwhile. A disk that has no room for it gets back what was taken.
    Whatever fails is logged alone: commits go on as they would without.
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
        log.info("the write-ahead log gets no room ahead", extra={"error": str(error)})


def _write_zeros(descriptor: int, start: int, end: int) -> None:
    while start < end:
        start += os.pwrite(descriptor, _PIECE[: end - start], start)
