"""Pages of rows, the same for all stores, and where the next page starts.

Rows are ordered by the position at which they began. One event may begin several rows of a view:
those are ordered by key, by its UTF-8 bytes.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from projections.errors import BadCursor


class Place(NamedTuple):
    """A row's place in the list of all rows: the position at which it began, and its key."""

    started: int
    key: str


def page_json(items: list[bytes], last: Place | None) -> bytes:
    """Return a page; `last` is the place after which the next page begins, None at the end."""
    cursor = b"null" if last is None else b'"%b"' % encode_cursor(last)
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), cursor)


def encode_cursor(place: Place) -> bytes:
    """Return an opaque cursor for the place."""
    return base64.urlsafe_b64encode(b"%d %b" % (place.started, place.key.encode())).rstrip(b"=")


def decode_cursor(cursor: str) -> Place:
    """Return the place that a cursor stands for.

    Raises:
        BadCursor: it is not one of ours.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        started, space, key = text.partition(b" ")
        if space and started.isdigit() and len(started) < 20 and int(started) < 2**63:
            return Place(int(started), key.decode())
    except (binascii.Error, ValueError):
        pass
    raise BadCursor(f"not a cursor of these pages: {cursor!r}")
