"""What a command returns: proof that it was recorded, never data."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pydantic import Field

from rayfold.messages import Message


class Receipt(Message):
    """The command's events are durable.

    `revision` is the zero-based place of the last event in the stream; `position` is a place in
    `$all` at or after that event: a view that has reached it shows the effect.

    For a decision over several aggregates, `stream` and `revision` are those of the leading one,
    and `revisions` has the revision afterwards of every stream that it read. Otherwise it is empty.
    """

    command_id: UUID
    stream: str
    revision: int
    position: int
    revisions: Mapping[str, int] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.command_id, self.stream, self.revision, self.position))
