"""The system projections ``$by_category``, ``$by_event_type`` and ``$streams``, as links.

Rules: EventStoreDB docs, "System projections". ``$ce-<category>`` (the text before the first dash
of the stream) and ``$et-<type>`` get a link for each event, ``$streams`` one for each stream. They
follow the log like a subscriber. Links and the reached position are written in one transaction, so
each link is written once, even if the server dies.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from eventstore.embedded.protocol.constants import FLAG_SYSTEM, LINK_TYPE, MAX
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.filters import DEFAULT
from eventstore.embedded.storage.store import Store
from eventstore.embedded.storage.write_transaction import WriteTransaction

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a failed write is tried again."""

_BATCH = 200
_KEY = "system_projections"


def links_of(event: Event) -> list[str]:
    """Return streams that get a link to this event. System streams and types are left out."""
    stream = event.stream
    if stream.startswith("$") or event.flags & FLAG_SYSTEM or event.revision == MAX:
        return []
    targets = [f"$et-{event.type}"]
    category, dash, _ = stream.partition("-")
    if dash and category:
        targets.append(f"$ce-{category}")
    if event.revision == 0:
        targets.append("$streams")
    return targets


@dataclass(frozen=True, slots=True)
class WriteLinks:
    """Links for some events, and the position up to which all events have their links."""

    events: Sequence[Event]
    position: int

    def apply(self, transaction: WriteTransaction) -> None:
        """Write the links. Tombstoned link streams are skipped: an operator has deleted them."""
        found = transaction.query(f"SELECT value FROM meta WHERE key = '{_KEY}'")
        done = int(found[0][0]) if found else 0  # by an attempt that was not answered in time
        for event in self.events:
            if event.position <= done:
                continue
            data = f"{event.revision}@{event.stream}".encode()
            metadata = json.dumps(
                {"$o": event.stream, "$causedBy": str(uuid.UUID(bytes=event.id))}
            ).encode()
            for name in links_of(event):
                state = transaction.stream(name)
                if not state.tombstoned:
                    link = Proposed(uuid.uuid4().bytes, LINK_TYPE, False, data, metadata)
                    transaction.stage(state, link)
        transaction.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, str(self.position)))


class SystemProjections:
    """Follows the log and writes links until stopped."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Continue where the last run ended; without an earlier run, project the whole store."""
        rows = self._store.log.query(f"SELECT value FROM meta WHERE key = '{_KEY}'")
        position = int(rows[0][0]) if rows else 0
        self._task = asyncio.create_task(self._run(position))

    async def stop(self) -> None:
        """Finish the present batch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self, position: int) -> None:
        while True:
            try:
                position = await self._step(position)
            except RpcError:  # the writer logs the reason
                await asyncio.sleep(RETRY)
            except Exception:
                log.exception("links cannot be written")
                await asyncio.sleep(RETRY)

    async def _step(self, position: int) -> int:
        """Write links for some events after a position; return the position of the last of them."""
        reader = self._store.log
        if position >= reader.recent.last_position:
            await reader.recent.wait()
            return position
        if reader.recent.covers(position):
            looked_at = reader.recent.after(position, _BATCH)
            events = [event for event in looked_at if links_of(event)]
            reached = looked_at[-1].position
        else:
            rows, reached = reader.scan_forwards(position, DEFAULT, _BATCH)
            events = reader.events_at([at for at, _ in rows]) if rows else []
        if events:
            await self._store.write(WriteLinks(events, reached), type(None))
        else:
            await asyncio.sleep(0)
        return reached
