"""A view's rows as items: the document as it is served, and the row's place in the log.

The row can be restored from the document without loss: see `rayfold.field_types`. It is text, not a
map: DynamoDB's numbers have 38 digits, and a row is always read as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from projections.dynamodb.keys import GenerationKeys, Key, place_of, value_prefix
from projections.stores.documents import RowTooLarge, read_document
from rayfold import VersionedRow, ViewDefinition, document, key_text

Item = Mapping[str, Any]
"""An item's attributes apart from its keys, as Python values."""

MAX_ROW = 396 * 1024
"""The most bytes of a row with its key. An item has 400 KB; a journal entry needs slightly more."""

LAYOUT = 1
"""The version of the storage format; raising it rebuilds every generation."""


class StoredRow(NamedTuple):
    """A row's item: its document and its place in the log."""

    key: str
    body: bytes
    revision: int
    position: int
    started: int
    values: list[str]
    """The `value_prefix` of each index; an empty text if there is no value."""


class RowCodec:
    """Converts rows to items and list members, and back."""

    def __init__(self, view: ViewDefinition, keys: GenerationKeys) -> None:
        self.view = view
        self._keys = keys

    def encode(self, key: str, row: VersionedRow) -> dict[str, Any]:
        """Return a row's attributes.

        Raises:
            RowTooLarge: the row is too large.
        """
        body = document(row)
        size = len(body) + len(key.encode())
        if size > MAX_ROW:
            raise RowTooLarge(f"the row takes {size} bytes, and an item of DynamoDB {MAX_ROW}")
        return {
            "key": key,
            "doc": body.decode(),
            "revision": row.revision,
            "position": row.position,
            "started": row.started,
            "values": self._values(key, row),
        }

    def decode(self, item: Item) -> VersionedRow:
        """Return the row that an item holds.

        Raises:
            ValueError: it is not valid for the view's model.
        """
        stored = stored_row(item)
        return read_document(
            self.view.model, stored.body, stored.revision, stored.position, stored.started
        )

    def members(self, key: str, row: VersionedRow | None) -> list[Key | None]:
        """Return the row's place in the list of all, then in each index; None where it has none."""
        if row is None:
            return [None] * (1 + len(self.view.lists))
        place = place_of(row.started, key)
        found: list[Key | None] = [Key(self._keys.all, place)]
        for pk, value in zip(self._keys.by, self._values(key, row), strict=True):
            found.append(Key(pk, value + place) if value else None)
        return found

    def _values(self, key: str, row: VersionedRow) -> list[str]:
        values = [getattr(row.row, field) for field in self.view.indexes]
        texts = self.view.listed(key, [None if v is None else key_text(v) for v in values])
        return ["" if each is None else value_prefix(each) for each in texts]


def stored_row(item: Item) -> StoredRow:
    """Return the content of a row's item."""
    return StoredRow(
        item["key"],
        item["doc"].encode(),
        item["revision"],
        item["position"],
        item["started"],
        item["values"],
    )
