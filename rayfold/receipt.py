"""What a command gives back: proof that it was recorded, never data."""

from __future__ import annotations

from uuid import UUID

from rayfold.messages import Message


class Receipt(Message):
    """The command's events are durable.

    `revision` is the zero-based place of its last event in the stream; `position` a
    place in `$all` at or after that event: a view that has reached it shows the effect.
    """

    command_id: UUID
    stream: str
    revision: int
    position: int
