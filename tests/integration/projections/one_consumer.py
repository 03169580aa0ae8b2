"""A competing consumer of the shop in a process of its own, to be killed.

Says `consuming` when it has joined its group, and `committed` for every batch.
"""

from __future__ import annotations

import asyncio
import sys

from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from projections.competing.consumer import Consumer
from rayfold import Registry


class Talking(Consumer):
    """Says what it does, so that a test need not guess."""

    async def _acknowledge(self, deliveries, done):  # type: ignore[no-untyped-def]
        # Committed but not yet acknowledged: the worst moment to be killed in.
        print("committed", flush=True)
        await super()._acknowledge(deliveries, done)


async def main(eventstore: str, dsn: str, view: str) -> None:
    registry = Registry.load("examples.shop")
    consumer = Talking(
        registry,
        EventLog(eventstore),
        PersistentSubscriptions(eventstore),
        dsn,
        registry.views[view],
    )
    running = asyncio.create_task(consumer.run())
    await consumer.joined.wait()
    print("consuming", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
