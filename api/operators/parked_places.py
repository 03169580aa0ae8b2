"""Cursors for lists of parked events: a page begins after a place in the list."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from api.http.problems import invalid_field

PARKED_PAGE = 999

_LIMIT = re.compile(r"[1-9][0-9]{0,2}\Z")


def page_limit(given: Mapping[str, str], default: int) -> int:
    """Return the `limit` of the query string, or the default.

    Raises:
        Problem: it is not a valid number.
    """
    limit = given.get("limit", str(default))
    if not _LIMIT.match(limit):
        raise invalid_field("limit", "must be a number from 1 to 999")
    return int(limit)


def encode_place(place: Sequence[Any]) -> str:
    """Return the cursor of the page after a place; a place's first item is a position."""
    return base64.urlsafe_b64encode(json.dumps(list(place)).encode()).decode().rstrip("=")


def decode_place(cursor: str, like: Sequence[Any]) -> list[Any]:
    """Return the place after which a cursor's page begins, with the types of `like`.

    Raises:
        Problem: the cursor is not valid.
    """
    try:
        place = json.loads(base64.b64decode(cursor + "==", altchars=b"-_"))
        position, *_ = place
        if [*map(type, place)] == [*map(type, like)] and -1 <= position < 1 << 63:
            return list(place)
    except (ValueError, TypeError):
        pass
    raise invalid_field("cursor", "is not a cursor that this stack gave")
