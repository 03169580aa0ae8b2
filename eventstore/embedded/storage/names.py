"""Stream names: what is valid, what is hidden, and which event types count as system ones."""

import re

from eventstore.embedded.protocol.constants import FLAG_HIDDEN, FLAG_SYSTEM, MAX_STREAM_NAME_BYTES
from eventstore.embedded.protocol.errors import invalid_argument

DEFAULT_EXCLUDE = r"^(?!(\$.+$|PersistentConfig\d+$|Result$))"
"""The regular expression that Python's client sends unless told otherwise."""

_default = re.compile(DEFAULT_EXCLUDE)
_HIDDEN = re.compile(r"\$persistentsubscription-\$all::.*-(checkpoint|parked)", re.DOTALL)


def decode_stream_name(raw: bytes) -> str:
    """Return the name in a ``StreamIdentifier``; empty, ``$$`` and non-UTF-8 names are refused."""
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise invalid_argument("A stream name must be valid UTF-8.") from error
    if not is_valid(name):
        raise invalid_argument("'stream_identifier' is not a valid StreamName")
    return name


def is_valid(name: str) -> bool:
    """Return whether a name can hold events."""
    if len(name) * 4 > MAX_STREAM_NAME_BYTES and len(name.encode()) > MAX_STREAM_NAME_BYTES:
        return False
    return bool(name) and name != "$$"


def is_metastream(name: str) -> bool:
    """Return whether it holds metadata: ``$$s`` holds that of ``s``."""
    return name.startswith("$$")


def stream_flags(name: str) -> int:
    """Return flags: groups on ``$all`` would feed on their own checkpoints if it showed them."""
    if not name.startswith("$"):
        return 0
    hidden = name == "$epoch-information" or _HIDDEN.fullmatch(name)
    return FLAG_HIDDEN if hidden else 0


def type_flags(event_type: str) -> int:
    """Return whether the clients' default filter drops the type."""
    return 0 if _default.search(event_type) else FLAG_SYSTEM
