"""A command on its way to its writer, and what comes back."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from uuid import UUID, uuid4

from rayfold import Command, Registry


class Envelope(NamedTuple):
    """A command as bytes, with what the log shall know about it.

    A tuple of strings and bytes is dumped in microseconds, a pydantic model in half a
    millisecond. `payload` is the command as JSON; `fingerprint` tells whether a repeated
    `command_id` means the same command. `correlation_id` is the command id when empty.
    """

    command: str
    aggregate_id: str
    payload: bytes
    command_id: str
    fingerprint: str
    expected_revision: int | None = None
    principal: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class Done(NamedTuple):
    """The command stands in the log: see `rayfold.Receipt`."""

    revision: int
    position: int


Outcome = Done | Exception
"""An exception is a `rayfold.Refused` or a `WriteSideError`."""


def enclose(
    registry: Registry,
    command: Command,
    *,
    command_id: UUID | None = None,
    expected_revision: int | None = None,
    principal: str = "",
) -> Envelope:
    """An envelope for a command at hand; a new command id unless one is given."""
    given = command.model_dump_json(exclude=set(command.server_supplied))
    return Envelope(
        command.name,
        str(getattr(command, registry.owner[type(command)].id_field)),
        command.model_dump_json().encode(),
        str(command_id or uuid4()),
        hashlib.blake2b(f"{command.name} {given}".encode(), digest_size=16).hexdigest(),
        expected_revision,
        principal,
    )
