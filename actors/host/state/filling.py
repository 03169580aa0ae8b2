"""Writing the rows of aggregates that were event-sourced before, or rewriting all rows.

A host does the same when it loads such an aggregate; this does it for those that no host has loaded
yet. Hosts may run meanwhile: the row's version lets only one writer succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from actors.errors import StreamUnreadable
from actors.host.state.port import States
from actors.host.state.storage import StateStorage
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from rayfold import Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.together import cancel

AT_A_TIME = 32


async def streams_of(eventstore: Log, aggregate: AggregateType) -> AsyncIterator[str]:
    """Yield each stream of the category on the log once."""
    seen: set[str] = set()
    async for raw in eventstore.read_all([f"{aggregate.category}-"]):
        if raw.stream not in seen:
            seen.add(raw.stream)
            yield raw.stream


async def fill(
    registry: Registry,
    eventstore: Log,
    states: States,
    aggregate: AggregateType,
    said: Callable[[int], None] = lambda done: None,
    *,
    again: bool = False,
) -> int:
    """Write the rows that are missing or behind the log; return how many were written.

    `again`: rewrite all rows, except those whose first events are no longer on the log.

    Raises:
        StoreUnavailable, Unavailable: a store does not answer; run it again.
        StreamUnreadable: events of a stream cannot be folded.
    """
    storage = StateStorage(registry, eventstore, states)
    slots, written, seen = asyncio.Semaphore(AT_A_TIME), 0, 0

    async def one(stream: str) -> bool:
        try:
            return await storage.fill(aggregate, stream, again=again)
        except StreamTombstoned:
            return False
        finally:
            slots.release()

    tasks: set[asyncio.Task[bool]] = set()
    try:
        async for stream in streams_of(eventstore, aggregate):
            await slots.acquire()
            tasks.add(asyncio.create_task(one(stream)))
            done = {task for task in tasks if task.done()}
            tasks -= done
            written += sum(task.result() for task in done)
            seen += 1
            said(seen)
        written += sum(await asyncio.gather(*tasks))
        tasks.clear()
    finally:
        try:
            await cancel(*tasks)
        finally:
            await storage.close()
    return written


async def cut_streams(
    registry: Registry, eventstore: Log, states: States, aggregate: AggregateType
) -> list[str]:
    """Return streams whose first events are no longer on the log, though their rows include them.

    Such an aggregate cannot become event-sourced: its events do not give its state. Events in an
    outbox are relayed to the log on the way.
    """
    storage = StateStorage(registry, eventstore, states)
    found = []
    try:
        async for stream in streams_of(eventstore, aggregate):
            try:
                kept = await storage.relay(aggregate, stream)
                if kept is not None and await storage.first_of(stream) != kept.began:
                    found.append(stream)
            except StreamTombstoned:
                continue
            except StreamUnreadable:
                found.append(stream)
    finally:
        await storage.close()
    return found
