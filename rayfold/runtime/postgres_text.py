"""Texts in the form that Postgres accepts: `text` has no NUL, and indexes have no long values.

Stream names and keys come from a log that other systems write to, so they may be any text.
"""

from __future__ import annotations

import re
from hashlib import sha256

ESCAPE = "\x1a"
"""SUBSTITUTE: precedes the four hexadecimal digits of a character that cannot be stored."""

LONGEST = 2_600
"""Bytes that an index entry has room for, besides a table's name."""

_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile(f"{ESCAPE}([0-9a-f]{{4}})")


def storable(text: str) -> str:
    """Return the text with the characters that Postgres cannot store escaped.

    Most texts stay as they are, and different texts stay different. `restored` is the inverse.
    """
    if text.isprintable():
        return text
    return _UNSTORABLE.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def restored(stored: str) -> str:
    """Return the text from which `storable` made this one."""
    if ESCAPE not in stored:
        return stored
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored)


def indexable(text: str) -> str:
    """Return the text in a form that an index accepts; a long one as its beginning and a digest.

    Different texts stay different, but a shortened text cannot be restored.
    """
    stored = storable(text)
    if len(stored) * 4 <= LONGEST or len(stored.encode()) <= LONGEST:
        return stored
    return f"{stored[:256]}{ESCAPE}#{sha256(stored.encode()).hexdigest()}"


def is_storable(text: str) -> bool:
    """Return whether a column can hold this text as it is."""
    return text.isprintable() or not re.search("[\x00\ud800-\udfff]", text)
