"""The file of a view's snapshot: a head, its rows in columns, and a tail, in frames of MessagePack.

Each frame has its length and a checksum in front. How many there are is said by the head, so a file
that was cut off, or that goes on, is told from a whole one.
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
"""Of the files; those of another one are passed over."""

_FRAME = Struct("!II")


class Origin(msgspec.Struct, frozen=True):
    """What the rows were made by, and of. `domain` is its hash.

    `forgotten` says who was when they were folded; see `Forgotten`.
    """

    layout: int
    domain: str
    store: str
    stack: str
    view: str
    forgotten: str


class Head(msgspec.Struct, frozen=True):
    """What a file is of. Rows have what they fold up to `position` at least."""

    origin: Origin
    position: int
    rows: int
    rows_in_frame: int


class Tail(msgspec.Struct, frozen=True):
    """What is known when the rows are written."""

    gone: dict[str, int]
    """The keys of rows that went meanwhile, and where in the log."""
    last: LastEvent
    """The last event that any row has folded by then: it tells whether the log is the same."""


def create(path: Path) -> IO[bytes]:
    """Open an empty file, for its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def put(file: IO[bytes], content: Head | Copied | Tail) -> None:
    """Write the next frame."""
    frame = msgspec.msgpack.encode(content)
    file.write(_FRAME.pack(len(frame), zlib.crc32(frame)) + frame)


def finish(file: IO[bytes]) -> None:
    """Wait until all of it is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def read(path: Path, view: ViewDefinition, origin: Origin) -> tuple[Head, Table, Tail]:
    """Return what the file has; the table is without the rows that went.

    Raises:
        OSError: there is none, or it cannot be read.
        Exception: it is damaged, or of another origin. What breaks depends on the damage.
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
