"""Names of keys in Redis, and members of its sorted sets.

All keys of a generation have one hash tag, so that one script may change them together in a Redis
Cluster too: a generation is in one slot, on one node. Sorted sets have one score for all and are
read by the order of their members' bytes, which is the order of pages.
"""

from __future__ import annotations

import hashlib
import json

from projections.pages import Place

LONGEST = 256
"""Bytes of a value that are written out in a list; of a longer one it is a digest."""

MOST_INDEXES = 64
"""Lists that are looked for when a generation goes."""

_PLACE = b"%020d %b"


class GenerationKeys:
    """The keys of one generation of a view; `indexes` is the number of its indexes."""

    def __init__(self, stack: str, view: str, generation: str, indexes: int) -> None:
        prefix = self._prefix = f"rayfold:{{{stack}/{view}@{generation}}}:"
        self.generation = generation
        self.meta = prefix + "meta"
        """A hash: `partitions`, the checkpoint of each partition, how large the others are."""
        self.rows = prefix + "rows"
        """A hash: rows by key."""
        self.all = prefix + "all"
        """A sorted set: the places of all rows."""
        self.parked = prefix + "parked"
        """A hash: what is parked, by key and stream."""
        self.held = prefix + "held"
        """A sorted set: what waits behind it, by key and position."""
        self.hold = prefix + "hold"
        """There while writers have to wait for a switch."""
        self.by = [f"{prefix}by:{at}" for at in range(indexes)]
        """Sorted sets: for each index, the value and the place of each row."""

    @property
    def written(self) -> list[str]:
        """What a transaction may change, in the order in which its script has them."""
        return [self.meta, self.rows, self.all, self.parked, self.held, self.hold, *self.by]

    @property
    def whatever(self) -> list[str]:
        """All of them, also where the definition before had more indexes."""
        more = [f"{self._prefix}by:{at}" for at in range(len(self.by), MOST_INDEXES)]
        return [*self.written, *more]


def pointer_of(stack: str, view: str) -> str:
    """Return the key that says which generation is live: a hash, in a slot of its own."""
    return f"rayfold:{{{stack}/{view}}}"


def place_of(started: int, key: bytes) -> bytes:
    """Return a row's place as a member: places sort as rows are listed."""
    return _PLACE % (started, key)


def after(place: Place) -> bytes:
    """Return the member behind which a page goes on."""
    return place_of(place.started, place.key.encode())


def placed(member: bytes) -> Place:
    """Return the place that a member stands for."""
    return Place(int(member[:20]), member[21:].decode())


def value_prefix(value: str) -> bytes:
    """Return what the members of rows with that value begin with, and no others do."""
    data = value.encode()
    if len(data) > LONGEST:
        return b"#%b\x00" % hashlib.blake2b(data, digest_size=24).hexdigest().encode()
    # The value ends at the first NUL, so it must not have one of its own.
    return b"=%b\x00" % data.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")


def parked_field(key: str, stream: str) -> bytes:
    """Return the field of something parked."""
    return b"%b\n%b" % (_text(key), _text(stream))


def held_member(key: str, position: int, stream: str, revision: int) -> bytes:
    """Return the member of an event that waits: those of a key sort by position."""
    return b"%b\n%020d %d %b" % (_text(key), position, revision, _text(stream))


def held_range(key: str) -> tuple[bytes, bytes]:
    """Return between which members those of a key are."""
    text = _text(key)
    return b"[%b\n" % text, b"(%b\x0b" % text


def held_parts(member: bytes) -> tuple[int, int, str]:
    """Return position, revision and stream of an event that waits."""
    position, revision, stream = member.partition(b"\n")[2].split(b" ", 2)
    return int(position), int(revision), json.loads(stream)


def _text(text: str) -> bytes:
    return json.dumps(text).encode()
