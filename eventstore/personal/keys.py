"""Keys of subjects: what personal data is encrypted under, and what forgetting destroys."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.personal.forgotten import Forgotten

KEY_BITS = 256


class SubjectKey(NamedTuple):
    """A key that is there. `subject` is whose it is, as text."""

    id: UUID
    subject: str
    key: bytes


class SubjectKeys(Protocol):
    """The keys of a stack's subjects."""

    async def to_write(self, subjects: Collection[str]) -> dict[str, SubjectKey]:
        """Return a key of each subject; one that has none, or was forgotten, gets a new one.

        Subjects that are being forgotten at this moment are left out: what was decided for them may
        rest on data from before.

        Raises:
            StoreUnavailable: the keys cannot be had.
        """
        ...

    async def to_read(self, ids: Collection[UUID]) -> dict[UUID, SubjectKey | None]:
        """Return the keys with these ids: None for a destroyed one, no entry for an unknown id.

        Raises:
            StoreUnavailable: the keys cannot be had.
        """
        ...

    async def forgotten(self) -> Forgotten:
        """Return who is forgotten by now.

        Raises:
            StoreUnavailable: it is not known.
        """
        ...

    def close(self) -> None:
        """End the connection, and know no key any more."""
        ...


def new_key(subject: str) -> SubjectKey:
    """Return a key that nobody has yet."""
    return SubjectKey(uuid4(), subject, AESGCM.generate_key(KEY_BITS))
