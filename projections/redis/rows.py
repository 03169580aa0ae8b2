"""A view's rows as values in Redis: the row's place in the log, then the document as it is served.

The row can be restored from the document without loss: see `rayfold.field_types`. RedisJSON is not
used: it stores numbers as doubles, and a row is always read and written as a whole.
"""

from __future__ import annotations

from projections.redis.keys import place_of, value_prefix
from projections.stores.documents import RowTooLarge, read_document
from rayfold import VersionedRow, ViewDefinition, document, key_text

MAX_ROW = 8 * 1024 * 1024
"""The most bytes of a row with its key: a script blocks all others while it writes."""

LAYOUT = 1
"""The version of the storage format; raising it rebuilds every generation."""


class RowCodec:
    """Converts rows to values and list members, and back."""

    def __init__(self, view: ViewDefinition) -> None:
        self.view = view

    def encode(self, key: bytes, row: VersionedRow) -> bytes:
        """Return a row's value.

        Raises:
            RowTooLarge: the row is too large.
        """
        body = document(row)
        if len(body) + len(key) > MAX_ROW:
            raise RowTooLarge(
                f"the row takes {len(body) + len(key)} bytes, and Redis is given {MAX_ROW} at most"
            )
        return b"%d %d %d\n%b" % (row.revision, row.position, row.started, body)

    def decode(self, value: bytes) -> VersionedRow:
        """Return the row that a value holds.

        Raises:
            ValueError: it is not valid for the view's model.
        """
        revision, position, started, body = parts_of(value)
        return read_document(self.view.model, body, revision, position, started)

    def members(self, key: bytes, row: VersionedRow | None) -> list[bytes]:
        """Return the row's place, then its member in each index; an empty one if it has none."""
        if row is None:
            return [b""] * (1 + len(self.view.lists))
        place = place_of(row.started, key)
        values = [getattr(row.row, field) for field in self.view.indexes]
        texts = [None if each is None else key_text(each) for each in values]
        if self.view.tenants:
            texts = [*self.view.listed(key.decode(), texts)]
        return [place, *(b"" if each is None else value_prefix(each) + place for each in texts)]


def parts_of(value: bytes) -> tuple[int, int, int, bytes]:
    """Return revision, position, started and document of a value."""
    head, _, body = value.partition(b"\n")
    revision, position, started = head.split(b" ")
    return int(revision), int(position), int(started), body
