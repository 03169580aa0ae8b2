"""Keys of persons in this process, for tests of the personal log."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from eventstore.personal.forgotten import Forgotten
from eventstore.personal.keys import SubjectKey, new_key


class MemoryKeys:
    """See `SubjectKeys`."""

    def __init__(self) -> None:
        self._keys: dict[str, SubjectKey] = {}
        self._destroyed: set[UUID] = set()
        self.asked = 0
        self.being_forgotten: set[str] = set()
        self.is_settled = True

    async def to_write(self, subjects: Collection[str]) -> dict[str, SubjectKey]:
        """See `SubjectKeys.to_write`."""
        self.asked += 1
        return {
            each: self._keys.setdefault(each, new_key(each))
            for each in subjects
            if each not in self.being_forgotten
        }

    async def to_read(self, ids: Collection[UUID]) -> dict[UUID, SubjectKey | None]:
        """See `SubjectKeys.to_read`."""
        self.asked += 1
        there = {each.id: each for each in self._keys.values() if each.id in ids}
        return {**dict.fromkeys(self._destroyed.intersection(ids)), **there}

    async def forgotten(self) -> Forgotten:
        """See `SubjectKeys.forgotten`."""
        return Forgotten(str(len(self._destroyed)), self.is_settled)

    @property
    def subjects(self) -> set[str]:
        """Who has a key."""
        return set(self._keys)

    def forget(self, subject: str) -> None:
        """Destroy a key."""
        self._destroyed.add(self._keys.pop(subject).id)

    def close(self) -> None:
        """See `SubjectKeys.close`."""
