"""Master keys, which wrap the keys of persons, so that a copy of their table decrypts nothing.

They are in a file on each node, named by the variable: one key on each line, 32 bytes in base64.
The first one wraps and all of them unwrap, so that a new one can replace it while a stack runs. The
variable belongs to the node: actors inherit it from the process that starts Ray there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.errors import StoreUnavailable
from eventstore.personal.keys import KEY_BITS

VARIABLE = "RAYFOLD_MASTER_KEYS"

PLAIN = "plain"
"""In place of the first key, it says that keys are to be stored plain again."""

_NONCE = 12
"""Bytes of a random nonce, as recommended by NIST SP 800-38D."""
_BYTES = KEY_BITS // 8
_FORMAT = b"\x01"
_NAME = 4
"""Bytes of a master key's hash, by which a wrapped key names it."""
_BEGINNING = len(_FORMAT) + _NAME
WRAPPED = _BEGINNING + _NONCE + _BYTES + 16
"""Bytes of a wrapped key; a plain key has fewer."""


class NoMasterKey(StoreUnavailable):
    """The file of master keys lacks the needed key or cannot be read."""


class Damaged(Exception):
    """A wrapped key was changed, or was wrapped for another row."""


class _Loaded(NamedTuple):
    stamp: tuple[int, int, int]
    first: bytes
    """The prefix of keys wrapped with the first master key; empty: new keys are not wrapped."""
    by_beginning: Mapping[bytes, AESGCM]


class MasterKeys:
    """The master keys of this node. The file is read again whenever it changes."""

    def __init__(self, path: str | None = None) -> None:
        """`path` is the file, by default the variable's. If empty, there are no master keys."""
        self._path = os.environ.get(VARIABLE, "") if path is None else path
        self._loaded: _Loaded | None = None

    def wrapped(self, key: bytes, id: UUID, subject: str) -> bytes:
        """Return the key of a person, with this id, in the form in which to store it.

        Raises:
            NoMasterKey: the master key to wrap it with is not known.
        """
        loaded = self._now()
        if loaded is None or not loaded.first:
            return key
        nonce = os.urandom(_NONCE)
        sealed = loaded.by_beginning[loaded.first].encrypt(nonce, key, _whose(id, subject))
        return loaded.first + nonce + sealed

    def unwrapped(self, kept: bytes, id: UUID, subject: str) -> bytes:
        """Return the key of a person.

        Raises:
            NoMasterKey: this node does not have the master key that wrapped it.
            Damaged: it cannot be unwrapped.
        """
        if len(kept) != WRAPPED:
            return kept
        loaded = self._now()
        beginning, rest = kept[:_BEGINNING], kept[_BEGINNING:]
        master = loaded.by_beginning.get(beginning) if loaded is not None else None
        if master is None:
            where = f"not in {self._path}" if self._path else f"not here: {VARIABLE} is not set"
            name = beginning[len(_FORMAT) :].hex()
            raise NoMasterKey(
                f"keys of personal data are wrapped with the master key {name}, which is {where}"
            )
        try:
            return master.decrypt(rest[:_NONCE], rest[_NONCE:], _whose(id, subject))
        except InvalidTag as error:
            raise Damaged(f"the key {id} of a person was changed since it was wrapped") from error

    @property
    def beginning(self) -> bytes:
        """The prefix of keys that are stored in the present form; empty: they are plain.

        Raises:
            NoMasterKey: the file cannot be read.
        """
        loaded = self._now()
        return loaded.first if loaded is not None else b""

    def _now(self) -> _Loaded | None:
        if not self._path:
            return None
        try:
            if not os.path.isabs(self._path):
                raise ValueError("give the whole path, as processes work in folders of their own")
            found = os.stat(self._path)
            stamp = found.st_mtime_ns, found.st_ino, found.st_size
            if self._loaded is None or self._loaded.stamp != stamp:
                self._loaded = _loaded(stamp, Path(self._path).read_bytes())
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise NoMasterKey(f"{VARIABLE}: {self._path}: {said}") from error
        return self._loaded


def _loaded(stamp: tuple[int, int, int], text: bytes) -> _Loaded:
    """Return the content of a file; an error names the line, but not its text."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith(b"#")
    ]
    is_plain = bool(lines) and lines[0][1] == PLAIN.encode()
    masters = dict(_master(*each) for each in lines[is_plain:])
    if not masters:
        raise ValueError("it has no master key: write one a line, 32 bytes in base64")
    return _Loaded(stamp, b"" if is_plain else next(iter(masters)), masters)


def _master(number: int, line: bytes) -> tuple[bytes, AESGCM]:
    """Return the prefix of the keys that a master key wraps, and the master key."""
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _BYTES:
        raise ValueError(f"line {number} is not a master key: {_BYTES} bytes in base64")
    return _FORMAT + hashlib.sha256(key).digest()[:_NAME], AESGCM(key)


def _whose(id: UUID, subject: str) -> bytes:
    """Return the data authenticated with a key: it cannot be unwrapped in another row."""
    return id.bytes + subject.encode()
