"""Texts that Postgres can store: its `text` has no NUL, its indexes no long values.

Names of streams and keys come from a log that others write to: there they may be any text.
"""

from __future__ import annotations

import re
from hashlib import sha256

ESCAPE = "\x1a"
"""SUBSTITUTE: stands before four hexadecimal digits of a character that cannot be stored."""

LONGEST = 2_600
"""Bytes that an entry of an index has room for, beside a table's name."""

_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile(f"{ESCAPE}([0-9a-f]{{4}})")


def storable(text: str) -> str:
    """Return the text with what Postgres cannot store escaped; no two texts become one.

    Most texts stay as they are. `restored` leads back.
    """
    if text.isprintable():
        return text
    return _UNSTORABLE.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def restored(stored: str) -> str:
    """Return the text that `storable` made this of."""
    if ESCAPE not in stored:
        return stored
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored)


def indexable(text: str) -> str:
    """Return the text as an index takes it; of a long one, its beginning and a digest.

    No two texts become one, but a shortened one cannot be restored.
    """
    stored = storable(text)
    if len(stored) * 4 <= LONGEST or len(stored.encode()) <= LONGEST:
        return stored
    return f"{stored[:256]}{ESCAPE}#{sha256(stored.encode()).hexdigest()}"


def is_storable(text: str) -> bool:
    """Tell whether a column can hold this text as it is."""
    return text.isprintable() or not re.search("[\x00\ud800-\udfff]", text)
