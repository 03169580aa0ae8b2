"""Names of keys in Redis, and members of its sorted sets.

All keys of a generation have the same hash tag, so that one script may change them together in a
Redis Cluster too: a generation is in one slot, on one node. All members of a sorted set have the
same score, so that they are in the order of their bytes, which is the order of pages.
"""

from __future__ import annotations

import hashlib
import json

from projections.pages import Place

LONGEST = 256
"""The most bytes of a value in a list; a longer one is replaced by a digest."""

MOST_INDEXES = 64
"""Lists that are searched for when a generation is removed."""

_PLACE = b"%020d %b"


class GenerationKeys:
    """The keys of one generation of a view; `indexes` is the number of its indexes."""

    def __init__(self, stack: str, view: str, generation: str, indexes: int) -> None:
        prefix = self._prefix = f"rayfold:{{{stack}/{view}@{generation}}}:"
        self.generation = generation
        self.meta = prefix + "meta"
        """A hash: `partitions`, the checkpoint of each partition, and the sizes of the other
        keys.
        """
        self.rows = prefix + "rows"
        """A hash: rows by key."""
        self.all = prefix + "all"
        """A sorted set: the places of all rows."""
        self.parked = prefix + "parked"
        """A hash: parked entries by key and stream."""
        self.held = prefix + "held"
        """A sorted set: events that wait behind them, by key and position."""
        self.hold = prefix + "hold"
        """Exists while writers have to wait for a switch."""
        self.by = [f"{prefix}by:{at}" for at in range(indexes)]
        """Sorted sets: for each index, the value and the place of each row."""

    @property
    def written(self) -> list[str]:
        """The keys that a transaction may change, in the order of its script."""
        return [self.meta, self.rows, self.all, self.parked, self.held, self.hold, *self.by]

    @property
    def whatever(self) -> list[str]:
        """All keys, even if the previous definition had more indexes."""
        more = [f"{self._prefix}by:{at}" for at in range(len(self.by), MOST_INDEXES)]
        return [*self.written, *more]


def pointer_of(stack: str, view: str) -> str:
    """Return the key of a view's pointer: a hash, in a slot of its own."""
    return f"rayfold:{{{stack}/{view}}}"


def place_of(started: int, key: bytes) -> bytes:
    """Return a row's place as a member; places sort in the order of rows."""
    return _PLACE % (started, key)


def after(place: Place) -> bytes:
    """Return the member after which a page continues."""
    return place_of(place.started, place.key.encode())


def placed(member: bytes) -> Place:
    """Return the place that a member stands for."""
    return Place(int(member[:20]), member[21:].decode())


def value_prefix(value: str) -> bytes:
    """Return the prefix of members of rows with that value, and of no others."""
    data = value.encode()
    if len(data) > LONGEST:
        return b"#%b\x00" % hashlib.blake2b(data, digest_size=24).hexdigest().encode()
    # The value ends at the first NUL, so it must not have one of its own.
    return b"=%b\x00" % data.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")


def parked_field(key: str, stream: str) -> bytes:
    """Return the field of a parked entry."""
    return b"%b\n%b" % (_text(key), _text(stream))


def held_member(key: str, position: int, stream: str, revision: int) -> bytes:
    """Return the member of a waiting event: those of a key sort by position."""
    return b"%b\n%020d %d %b" % (_text(key), position, revision, _text(stream))


def held_range(key: str) -> tuple[bytes, bytes]:
    """Return the range of a key's members."""
    text = _text(key)
    return b"[%b\n" % text, b"(%b\x0b" % text


def held_parts(member: bytes) -> tuple[int, int, str]:
    """Return position, revision and stream of a waiting event."""
    position, revision, stream = member.partition(b"\n")[2].split(b" ", 2)
    return int(position), int(revision), json.loads(stream)


def _text(text: str) -> bytes:
    return json.dumps(text).encode()
