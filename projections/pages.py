"""Pages of rows, the same for all stores, and where a page starts.

Rows are ordered by the position at which they began. One event may begin several rows of a view:
those are ordered by key, by its UTF-8 bytes. Newest first is the reverse of all that.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from projections.errors import BadCursor


class Place(NamedTuple):
    """A row's place in the list of all rows: the position at which it began, and its key."""

    started: int
    key: str


class Start(NamedTuple):
    """Where a page starts: behind a place (None: at the end of the list that comes first)."""

    behind: Place | None
    newest_first: bool = False

    def in_list(self, places: Sequence[Place]) -> range:
        """Return the indexes of a page and all pages after it in a sorted list, in their order."""
        if self.newest_first:
            end = len(places) if self.behind is None else bisect_left(places, self.behind)
            return range(end - 1, -1, -1)
        return range(0 if self.behind is None else bisect_right(places, self.behind), len(places))


_REVERSED = b"-"
"""What cursors of pages that have the newest rows first begin with; alone, it is their first page.
"""


def page_json(items: list[bytes], following: Start | None) -> bytes:
    """Return a page; `following` is where the next page starts, None at the end."""
    cursor = b"null" if following is None else b'"%b"' % encode_cursor(following).encode()
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), cursor)


def encode_cursor(start: Start) -> str:
    """Return an opaque cursor for a start that is not the first page of the usual order."""
    text = _REVERSED if start.newest_first else b""
    if start.behind is not None:
        text += b"%d %b" % (start.behind.started, start.behind.key.encode())
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> Start:
    """Return where a page with that cursor starts.

    Raises:
        BadCursor: it is not one of ours.
    """
    if not cursor:
        return Start(None)
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        newest_first = text.startswith(_REVERSED)
        if text == _REVERSED:
            return Start(None, newest_first)
        started, space, key = text.removeprefix(_REVERSED).partition(b" ")
        if space and started.isdigit() and len(started) < 20 and int(started) < 2**63:
            return Start(Place(int(started), key.decode()), newest_first)
    except (binascii.Error, ValueError):
        pass
    raise BadCursor(f"not a cursor of these pages: {cursor!r}")
