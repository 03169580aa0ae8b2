"""Marked JSON to encrypted JSON and back: AES-256-GCM, a nonce for each value.

The place of a value is authenticated with it: the stream, the record's type, and the path in its
JSON. A value that was moved elsewhere cannot be decrypted. It is not treated as forgotten, because
all folded data would then keep that.
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
from rayfold.tenants import within

_NONCE = 12
"""Bytes of a random nonce, as recommended by NIST SP 800-38D."""

COMMAND = "payload"
"""The key in an event's metadata for the command that led to it, as JSON."""


def subjects_in(data: bytes, stream: str, tenant: str) -> set[str]:
    """Return the subjects of the marked values in the JSON of a tenant's record."""
    subjects = set()

    def note(found: dict[str, Any], path: tuple[str, ...]) -> None:
        if isinstance(found[MARK], dict):
            subjects.add(_subject(found[MARK], stream, tenant))

    replaced(decode(data), note)
    return subjects


def seal(
    data: bytes,
    stream: str,
    tenant: str,
    event_type: str,
    keys: Mapping[str, SubjectKey],
    *inside: str,
) -> bytes:
    """Return a record's JSON with its marked values encrypted; `inside` is the path of the JSON."""

    def encrypt(found: dict[str, Any], path: tuple[str, ...]) -> Any:
        marked = found[MARK]
        if not isinstance(marked, dict):
            return found  # encrypted already
        key = keys[_subject(marked, stream, tenant)]
        nonce = os.urandom(_NONCE)
        place = _place(stream, event_type, path)
        value = AESGCM(key.key).encrypt(nonce, encode(marked["value"]), place)
        sealed = f"{key.id.hex}.{base64.b64encode(nonce + value).decode()}"
        return {MARK: sealed, **({"forgotten": None} if "forgotten" in marked else {})}

    return encode(replaced(decode(data), encrypt, *inside))


def keys_in(data: bytes) -> set[UUID]:
    """Return the ids of the keys by which values in a record's JSON are encrypted."""
    try:
        return set(_keys_in(decode(data)))
    except UNREADABLE:
        return set()


def unseal(
    data: bytes,
    stream: str,
    event_type: str,
    keys: Mapping[UUID, SubjectKey | None],
    *inside: str,
) -> bytes:
    """Return a record's JSON with encrypted values decrypted and marked again.

    A value whose key is destroyed becomes its stand-in, without a mark, since it is no longer
    personal. A value whose key is unknown, or that cannot be decrypted, stays encrypted.
    """

    def decrypt(found: dict[str, Any], path: tuple[str, ...]) -> Any:
        parts = _parts(found[MARK])
        if parts is None or parts[0] not in keys:
            return found
        key, sealed = keys[parts[0]], parts[1]
        if key is None:
            return found.get("forgotten", FORGOTTEN)
        try:
            place = _place(stream, event_type, path)
            value = AESGCM(key.key).decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
        except (InvalidTag, ValueError):
            return found
        marked = {"value": decode(value), "subject": key.subject}
        return {MARK: {**marked, **({"forgotten": None} if "forgotten" in found else {})}}

    try:
        return encode(replaced(decode(data), decrypt, *inside))
    except UNREADABLE:
        return data


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
    except ValueError:  # data of another system
        return None


def _subject(marked: Mapping[str, Any], stream: str, tenant: str) -> str:
    """Return the subject of a marked value; by default, the id of the stream's aggregate."""
    if isinstance(subject := marked.get("subject"), str):
        return subject
    of = marked.get("of")
    return within(tenant, of) if isinstance(of, str) else stream.partition("-")[2]


def _place(stream: str, event_type: str, path: tuple[str, ...]) -> bytes:
    return encode([stream, event_type, *path])
