"""Keys of items in the table, and places in lists.

An item is identified by a partition key and a sort key. A list is the items of one partition key,
in the byte order of their sort keys, which is the order of pages. DynamoDB's own indexes are
eventually consistent and could not satisfy a token, so lists are items of ours, written with the
rows.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from projections.pages import Place
from projections.partitions import hash_of

LONGEST_VALUE = 240
"""The most bytes of a value in a list; a longer one is replaced by a digest."""

LONGEST_KEY = 700
"""The most bytes of a row's key in a list: a sort key has 1,024."""

SHARDS = 16
"""Partition keys over which a generation's rows are spread: each allows 1,000 writes a second."""

_END = "\x00"


class Key(NamedTuple):
    """An item's partition key and sort key."""

    pk: str
    sk: str


class GenerationKeys:
    """The items of one generation of a view; `indexes` is the number of its indexes."""

    def __init__(self, stack: str, view: str, generation: str, indexes: int) -> None:
        self.generation = generation
        self._prefix = f"{stack}/{view}@{generation}"
        self.all = f"{self._prefix}/all"
        """The partition key of the list of all rows."""
        self.by = [f"{self._prefix}/by/{at}" for at in range(indexes)]
        """Partition keys of the lists of each index: the value, then the place of each row."""
        self.checkpoints = f"{self._prefix}/at"
        self.parked_events = f"{self._prefix}/parked"
        self.held_events = f"{self._prefix}/held"
        self.journals = f"{self._prefix}/journal"

    @property
    def partition_keys(self) -> list[str]:
        """Return the partition keys of all of the generation's items, checkpoints first."""
        rows = [self.rows(at) for at in range(SHARDS)]
        events = [self.parked_events, self.held_events, self.journals]
        return [self.checkpoints, self.all, *self.by, *rows, *events]

    def rows(self, shard: int) -> str:
        """Return the partition key of a share of the rows."""
        return f"{self._prefix}/row/{shard}"

    def row(self, key: str) -> Key:
        """Return the key of a row's item."""
        return Key(self.rows(hash_of(key) % SHARDS), _short(key))

    def checkpoint(self, partition: int) -> Key:
        """Return the key of a partition's checkpoint."""
        return Key(self.checkpoints, f"{partition:05d}")

    def parked(self, key: str, stream: str) -> Key:
        """Return the key of a parked entry."""
        return Key(self.parked_events, f"{_digest(key)}/{_digest(stream)}")

    def held(self, key: str, stream: str, position: int) -> Key:
        """Return the key of a waiting event: those of a row sort by position."""
        return Key(self.held_events, f"{_digest(key)}/{position:020d}/{_digest(stream)}")

    def held_of(self, key: str) -> str:
        """Return the prefix of the sort keys of a row's waiting events."""
        return f"{_digest(key)}/"

    def journal(self, partition: int, name: str, number: int) -> Key:
        """Return the key of an entry of a journal."""
        return Key(self.journals, f"{self.journal_of(partition, name)}{number:06d}")

    def journal_of(self, partition: int, name: str) -> str:
        """Return the prefix of the sort keys of a journal's entries."""
        return f"{partition:05d}/{name}/"


LIVE = "live"
"""The sort key of a view's pointer; those of generations being built are next to it."""

BUILDING = "building/"


def view_key(stack: str, view: str) -> str:
    """Return the partition key of the records about a view's generations."""
    return f"{stack}/{view}"


def place_of(started: int, key: str) -> str:
    """Return a row's place in a list; places sort in the order of rows."""
    return f"{started:020d} {_short(key)}"


def after(place: Place) -> str:
    """Return the first text that sorts after a place."""
    return place_of(*place) + _END


def value_prefix(value: str) -> str:
    """Return the prefix of list members of rows with that value, and of no others."""
    if len(value.encode()) > LONGEST_VALUE:
        return f"#{_digest(value)}{_END}"
    # The value ends at the first NUL, so it must not have one of its own.
    return "=" + value.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01") + _END


def behind(prefix: str) -> str:
    """Return the smallest text that sorts after all members with a value's prefix."""
    return prefix[:-1] + "\x01"


def _short(key: str) -> str:
    """Return a key, or if it is too long, its beginning and a digest: it sorts the same so far."""
    data = key.encode()
    if len(data) <= LONGEST_KEY:
        return key
    begins = data[: LONGEST_KEY - 50].decode(errors="ignore")
    return f"{begins}{_END}{_digest(key)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
