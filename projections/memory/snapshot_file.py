"""The file format of a view's snapshot: a head, rows in columns, and a tail, as MessagePack frames.

Each frame is preceded by its length and a checksum. The head has the number of frames, so a
truncated file, or one with more data, is detected.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from struct import Struct
from typing import IO

import msgspec

from projections.memory.last_event import LastEvent
from projections.memory.table import Copied, Table
from rayfold import ViewDefinition

LAYOUT = 3
"""The version of the file format; files of another version are ignored."""

_FRAME = Struct("!II")


class Origin(msgspec.Struct, frozen=True):
    """Which code and log the rows are of. `domain` is its hash.

    `forgotten` identifies the persons who were forgotten when they were folded; see `Forgotten`.
    """

    layout: int
    domain: str
    store: str
    stack: str
    view: str
    forgotten: str


class Head(msgspec.Struct, frozen=True):
    """The head of a file. Rows include all events up to `position` at least."""

    origin: Origin
    position: int
    rows: int
    rows_in_frame: int


class Tail(msgspec.Struct, frozen=True):
    """The tail of a file: what is known once the rows are written."""

    gone: dict[str, int]
    """The keys of rows that were removed meanwhile, with the position."""
    last: LastEvent
    """The last event that any row includes: it shows whether the log is the same."""


def create(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def put(file: IO[bytes], content: Head | Copied | Tail) -> None:
    """Write the next frame."""
    frame = msgspec.msgpack.encode(content)
    file.write(_FRAME.pack(len(frame), zlib.crc32(frame)) + frame)


def finish(file: IO[bytes]) -> None:
    """Wait until the whole file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def read(path: Path, view: ViewDefinition, origin: Origin) -> tuple[Head, Table, Tail]:
    """Return the content of a file; the table is without the removed rows.

    Raises:
        OSError: there is no file, or it cannot be read.
        Exception: it is damaged, or of another origin. The type depends on the damage.
    """
    table = Table(view)
    with path.open("rb") as file:
        head = msgspec.msgpack.decode(_next(file), type=Head)
        if head.origin != origin:
            raise ValueError("it is of another domain, or of another stack")
        for _ in range(0, head.rows, head.rows_in_frame):
            table.fill(msgspec.msgpack.decode(_next(file), type=Copied))
        tail = msgspec.msgpack.decode(_next(file), type=Tail)
        if file.read(1):
            raise ValueError("it is longer than it says")
    table.without(tail.gone)
    table.filled()
    return head, table, tail


def _next(file: IO[bytes]) -> bytes:
    size, checksum = _FRAME.unpack(file.read(_FRAME.size))
    if size > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("it is cut off")
    frame = file.read(size)
    if zlib.crc32(frame) != checksum:
        raise ValueError("it is damaged")
    return frame
