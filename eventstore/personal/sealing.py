"""Marked JSON to encrypted JSON and back: AES-256-GCM, a nonce for each value.

What a value belongs to is authenticated with it: the stream, the record's type, and the place in
its JSON. Moved anywhere else it does not decrypt, and reads as forgotten, as does one whose key is
another's: a table of keys that was restored from elsewhere never breaks a fold.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.json import decode, encode

from eventstore.personal.keys import SubjectKey
from rayfold.foreign_json import UNREADABLE
from rayfold.personal import FORGOTTEN, MARK, replaced

_NONCE = 12
"""Bytes: what NIST SP 800-38D recommends, at random."""

COMMAND = "payload"
"""The key in an event's metadata that has the command it came of, as JSON."""


def subjects_in(data: bytes, stream: str) -> set[str]:
    """Return whose values are marked in a record's JSON."""
    found = set()

    def note(marked: Any, path: tuple[str, ...]) -> None:
        if isinstance(marked, dict):
            found.add(_subject(marked, stream))

    replaced(decode(data), note)
    return found


def seal(
    data: bytes, stream: str, event_type: str, keys: Mapping[str, SubjectKey], *within: str
) -> bytes:
    """Return a record's JSON with what is marked encrypted; `within` is where the JSON is."""

    def encrypt(marked: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(marked, dict):
            return {MARK: marked}  # encrypted already
        key = keys[_subject(marked, stream)]
        nonce = os.urandom(_NONCE)
        value = AESGCM(key.key).encrypt(
            nonce, encode(marked["value"]), _place(stream, event_type, path)
        )
        sealed = f"{key.id.hex}.{base64.b64encode(nonce + value).decode()}"
        return {MARK: sealed, **({"forgotten": None} if "forgotten" in marked else {})}

    return encode(replaced(decode(data), encrypt, *within))


def keys_in(data: bytes) -> set[UUID]:
    """Return the ids of the keys that values in a record's JSON are encrypted under."""
    try:
        return set(_keys_in(decode(data)))
    except UNREADABLE:
        return set()


def unseal(
    data: bytes, stream: str, event_type: str, keys: Mapping[UUID, SubjectKey], *within: str
) -> bytes:
    """Return a record's JSON with what is encrypted decrypted, and marked as it was.

    A value whose key is gone is its stand-in, without a mark: it is nobody's any more.
    """
    try:
        return encode(_opened(decode(data), stream, event_type, keys, within))
    except UNREADABLE:
        return data


def _opened(
    found: Any,
    stream: str,
    event_type: str,
    keys: Mapping[UUID, SubjectKey],
    path: tuple[str, ...],
) -> Any:
    if isinstance(found, list):
        return [
            _opened(each, stream, event_type, keys, (*path, str(at)))
            for at, each in enumerate(found)
        ]
    if not isinstance(found, dict):
        return found
    if MARK not in found:
        return {
            name: _opened(each, stream, event_type, keys, (*path, name))
            for name, each in found.items()
        }
    stand_in = found.get("forgotten", FORGOTTEN)
    parts = _parts(found[MARK])
    if parts is None or (key := keys.get(parts[0])) is None:
        return stand_in
    sealed = parts[1]
    try:
        place = _place(stream, event_type, path)
        value = AESGCM(key.key).decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
    except (InvalidTag, ValueError):
        return stand_in
    marked = {"value": decode(value), "of": key.subject}
    return {MARK: {**marked, **({"forgotten": None} if "forgotten" in found else {})}}


def _keys_in(found: Any) -> Iterator[UUID]:
    if isinstance(found, dict):
        if MARK in found:
            if parts := _parts(found[MARK]):
                yield parts[0]
            return
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from _keys_in(each)


def _parts(sealed: Any) -> tuple[UUID, bytes] | None:
    if not isinstance(sealed, str):
        return None
    key, _, value = sealed.partition(".")
    try:
        return UUID(hex=key), base64.b64decode(value)
    except ValueError:  # somebody else's
        return None


def _subject(marked: Mapping[str, Any], stream: str) -> str:
    """Return whose a marked value is: by default that of the aggregate whose stream it is."""
    of = marked.get("of")
    return of if isinstance(of, str) else stream.partition("-")[2]


def _place(stream: str, event_type: str, path: tuple[str, ...]) -> bytes:
    return encode([stream, event_type, *path])
