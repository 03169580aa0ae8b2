"""The audit log of operators, on the event log: who asked for what and when, and failures.

It stands in a stream of its own beside the domain's, where nobody who may only call a gateway can
change it. Operators are needed most when something is down: where the log does not take it, what
they ask is done all the same, and told in the process' own log instead.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import msgspec

from eventstore.errors import StoreError
from eventstore.port import ANY, Conflict, InvalidAppend, Log, StreamAppend
from eventstore.records import NewRecord
from rayfold.foreign_json import UNREADABLE, readable

log = logging.getLogger(__name__)

STREAM = "rayfold-operators"

_ASKED = "OperatorAsked"
_FAILED = "OperatorFailed"
TYPES = (_ASKED, _FAILED)

TIMEOUT = 2.0
"""Seconds that an operator waits for the log."""

MOST_ARGUMENTS = 4096
"""Bytes of a request's body that are kept."""


class Audit:
    """Notes what operators do, and tells of it."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def asked(self, principal: str, action: str, arguments: bytes) -> str:
        """Note what an operator asks for, before it is done; return the id of the note."""
        note = str(uuid4())
        said = {
            "id": note,
            "principal": principal,
            "action": action,
            "arguments": readable(arguments[:MOST_ARGUMENTS]) if arguments else {},
        }
        await self._note(_ASKED, said, note)
        return note

    async def failed(self, note: str, status: int, reason: str) -> None:
        """Note that it was refused, or broke."""
        said = {"asked": note, "status": status, "reason": reason}
        await self._note(_FAILED, said, str(uuid4()))

    async def last(self, limit: int) -> list[dict[str, Any]]:
        """Return the last notes, the newest first.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        notes = []
        async for raw in self._log.read_stream(STREAM, backwards=True, limit=limit):
            notes.append(
                {
                    "revision": raw.revision,
                    "type": raw.event_type,
                    "at": raw.recorded_at,
                    **_told(raw.data),
                }
            )
        return notes

    async def _note(self, event_type: str, said: dict[str, Any], record_id: str) -> None:
        record = NewRecord(event_type, msgspec.json.encode(said), {}, record_id)
        try:
            async with asyncio.timeout(TIMEOUT):
                (result,) = await self._log.append([StreamAppend(STREAM, ANY, [record])])
        except (StoreError, TimeoutError) as error:
            log.warning("an operator's action is not on the log", extra={**said, "error": error})
        else:
            if isinstance(result, Conflict | InvalidAppend):
                reason = {**said, "error": result.reason}
                log.warning("an operator's action is not on the log", extra=reason)


def _told(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except UNREADABLE:  # somebody else has written to it
        return {}
    return found if isinstance(found, dict) else {}
