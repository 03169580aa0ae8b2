"""Keys of subjects: they encrypt personal data, and forgetting destroys them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.personal.forgotten import Forgotten

KEY_BITS = 256


class SubjectKey(NamedTuple):
    """An existing key. `subject` is its subject, as text."""

    id: UUID
    subject: str
    key: bytes


class SubjectKeys(Protocol):
    """The keys of a stack's subjects."""

    async def to_write(self, subjects: Collection[str]) -> dict[str, SubjectKey]:
        """Return a key of each subject; a subject without one, or forgotten before, gets a new key.

        Subjects that are being forgotten at this moment are left out: a decision for them may
        depend on data that is being forgotten.

        Raises:
            StoreUnavailable: the keys cannot be read or written.
        """
        ...

    async def to_read(self, ids: Collection[UUID]) -> dict[UUID, SubjectKey | None]:
        """Return the keys with these ids: None for a destroyed one, no entry for an unknown id.

        Raises:
            StoreUnavailable: the keys cannot be read.
        """
        ...

    async def forgotten(self) -> Forgotten:
        """Return the forgotten subjects.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the connection and drop all keys from memory."""
        ...


def new_key(subject: str) -> SubjectKey:
    """Return a new random key."""
    return SubjectKey(uuid4(), subject, AESGCM.generate_key(KEY_BITS))
