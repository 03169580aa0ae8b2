"""The audit log of operators, on the event log: who asked for what and when, and failures.

It is in a stream of its own beside the domain's, which nobody can change who may only call a
gateway. Operators are needed most when something is down: if the log does not accept an entry, the
request is executed all the same, and logged by the process instead.
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
"""The most bytes of a request's body that are recorded."""


class Audit:
    """Records and lists what operators do."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def asked(self, principal: str, action: str, arguments: bytes) -> str:
        """Record an operator's request before it is executed; return the entry's id."""
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
        """Record that a request was refused or failed."""
        said = {"asked": note, "status": status, "reason": reason}
        await self._note(_FAILED, said, str(uuid4()))

    async def last(self, limit: int) -> list[dict[str, Any]]:
        """Return the last entries, newest first.

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
    except UNREADABLE:  # another client has written to it
        return {}
    return found if isinstance(found, dict) else {}
