"""Marked JSON to encrypted JSON and back: AES-256-GCM, a nonce for each value.

What a value belongs to is authenticated with it: the stream, the record's type, and the place in
its JSON. Moved anywhere else it does not decrypt. That is no forgetting, and is not taken for one:
it would be so for good in whatever is folded.
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
"""Bytes: what NIST SP 800-38D recommends, at random."""

COMMAND = "payload"
"""The key in an event's metadata that has the command it came of, as JSON."""


def subjects_in(data: bytes, stream: str, tenant: str) -> set[str]:
    """Return whose values are marked in the JSON of a tenant's record."""
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
    """Return a record's JSON with what is marked encrypted; `inside` is where the JSON is."""

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
    """Return the ids of the keys that values in a record's JSON are encrypted under."""
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
    """Return a record's JSON with what is encrypted decrypted, and marked as it was.

    A value whose key is destroyed is its stand-in, without a mark: it is nobody's any more. One
    whose key nobody knows, or that does not decrypt, stays as it is, and nobody can read it.
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
    except ValueError:  # somebody else's
        return None


def _subject(marked: Mapping[str, Any], stream: str, tenant: str) -> str:
    """Return whose a marked value is: by default that of the aggregate whose stream it is."""
    if isinstance(subject := marked.get("subject"), str):
        return subject
    of = marked.get("of")
    return within(tenant, of) if isinstance(of, str) else stream.partition("-")[2]


def _place(stream: str, event_type: str, path: tuple[str, ...]) -> bytes:
    return encode([stream, event_type, *path])
