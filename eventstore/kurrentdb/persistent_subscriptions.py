"""Persistent subscriptions: events that consumers share, and acknowledge one by one.

The server remembers what a group has acknowledged, and gives the rest to its connected
consumers. It guarantees each event at least once, to one consumer at a time, and *no order*: an
event that was sent back, or whose consumer died, comes after later events of its stream.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import grpc
from kurrentdbclient.events import RecordedEvent
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    KurrentDBClientError,
    NotFoundError,
    ProgrammingError,
)

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.connection import AsyncClient, for_leader, refused
from eventstore.kurrentdb.letting_go import let_go
from eventstore.kurrentdb.sync_client import raw_of
from eventstore.records import RawRecord

Opener = Callable[[Sequence[RawRecord]], Awaitable[list[RawRecord]]]
"""Decrypts records: see `PersonalLog.opened`."""

MESSAGE_TIMEOUT = 30.0
"""Seconds that a consumer has for an event before another gets it."""

MOST_RETRIES = 1000
"""Deliveries of one event before the server parks it. Gaps are closed here long before that."""

IN_HAND = 200
"""The most unacknowledged events of one consumer."""

ACK_DELAY = 0.02
"""Seconds during which acknowledgements are gathered."""

_FAILURES = (KurrentDBClientError, grpc.RpcError, OSError)


class Delivery(NamedTuple):
    """A delivered event. `retries`: how often it was sent back, or timed out, before."""

    raw: RawRecord
    retries: int
    event: RecordedEvent


class Deliveries:
    """The events that one consumer of a group receives."""

    def __init__(self, subscription: Any, in_hand: int, opened: Opener | None = None) -> None:
        self._subscription = subscription
        self._opened = opened
        self._arrived: asyncio.Queue[Delivery | BaseException | None] = asyncio.Queue(in_hand)

    async def pump(self) -> None:
        """Receive what the server sends, until the subscription ends."""
        end: BaseException | None = None
        try:
            async for event in self._subscription:
                await self._arrived.put(Delivery(raw_of(event), event.retry_count or 0, event))
        except Exception as error:  # any error must reach the waiting consumer
            end = error
        await self._arrived.put(end)

    async def take(self) -> list[Delivery]:
        """Wait for deliveries; return all that have arrived, at least one.

        Raises:
            StoreUnavailable: the subscription ended; unacknowledged events go to other consumers.
        """
        taken: list[Delivery] = []
        while not taken or not self._arrived.empty():
            each = await self._arrived.get()
            if not isinstance(each, Delivery):
                raise StoreUnavailable(f"the persistent subscription ended: {each}")
            taken.append(each)
        if self._opened is not None:
            raws = await self._opened([each.raw for each in taken])
            taken = [each._replace(raw=raw) for each, raw in zip(taken, raws, strict=True)]
        return taken

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge deliveries whose effect is durable.

        Raises:
            StoreUnavailable: the subscription has ended; they will be delivered again.
        """
        try:
            for each in deliveries:
                await self._subscription.ack(each.event)
        except _FAILURES as error:
            raise StoreUnavailable(f"the persistent subscription ended: {error}") from error

    async def retry(self, delivery: Delivery) -> None:
        """Send a delivery back to the server, which gives it to any consumer.

        Raises:
            StoreUnavailable: the subscription has ended; it will be delivered again.
        """
        try:
            await self._subscription.nack(delivery.event, "retry")
        except _FAILURES as error:
            raise StoreUnavailable(f"the persistent subscription ended: {error}") from error


class PersistentSubscriptions:
    """Persistent subscriptions to `$all`. Connects on first use."""

    def __init__(self, uri: str, opened: Opener | None = None) -> None:
        """Use `opened` to decrypt what is delivered; None: nothing needs decryption."""
        self._opened = opened
        self._uri = for_leader(uri)
        self._client: AsyncClient | None = None

    async def create(self, group: str, prefixes: Sequence[str], after: int) -> None:
        """Create a group for the events of streams with these prefixes after position `after`.

        An existing group of that name is replaced: its checkpoint may come from a database that
        is gone. Events that are delivered again are recognised as repeats.

        Raises:
            StoreUnavailable: no answer.
        """
        client = self._connected()
        start: dict[str, int] = {"commit_position": after} if after else {}
        try:
            with suppress(NotFoundError):
                await client.delete_subscription(group)
            await client.create_subscription_to_all(
                group,
                filter_include=tuple(f"{re.escape(prefix)}.*" for prefix in prefixes),
                filter_by_stream_name=True,
                consumer_strategy="Pinned",  # a stream stays with one consumer if possible
                message_timeout=MESSAGE_TIMEOUT,
                max_retry_count=MOST_RETRIES,
                min_checkpoint_count=1,
                max_checkpoint_count=1,  # readers' tokens are compared with the checkpoint
                checkpoint_after=0.1,
                max_subscriber_count=1000,
                **start,  # type: ignore[call-overload]
            )
        except _FAILURES as error:
            raise refused(self._uri, error) from error

    async def create_by_types(
        self, group: str, event_types: Sequence[str], after: int, message_timeout: float
    ) -> None:
        """Create a group for events of these types after `after`, unless one exists already.

        Each event goes to any consumer, which has `message_timeout` seconds for it.

        Raises:
            StoreUnavailable: no answer.
        """
        client = self._connected()
        start: dict[str, int] = {"commit_position": after} if after else {}
        try:
            with suppress(AlreadyExistsError):
                # The server takes the position as that of the first event to deliver.
                await client.create_subscription_to_all(
                    group,
                    filter_include=tuple(f"^{re.escape(each)}$" for each in event_types),
                    consumer_strategy="RoundRobin",
                    message_timeout=message_timeout,
                    max_retry_count=MOST_RETRIES,
                    min_checkpoint_count=1,
                    max_checkpoint_count=100,
                    checkpoint_after=1.0,
                    max_subscriber_count=1000,
                    **start,  # type: ignore[call-overload]
                )
        except _FAILURES as error:
            raise refused(self._uri, error) from error

    async def exists(self, group: str) -> bool:
        """Return whether there is a group of that name.

        Raises:
            StoreUnavailable: no answer.
        """
        try:
            await self._connected().get_subscription_info(group)
        except NotFoundError:
            return False
        except _FAILURES as error:
            raise refused(self._uri, error) from error
        return True

    async def delete(self, group: str) -> None:
        """Delete a group; a missing one is no error.

        Raises:
            StoreUnavailable: no answer; the group may have been deleted.
        """
        try:
            with suppress(NotFoundError):
                await self._connected().delete_subscription(group)
        except _FAILURES as error:
            raise refused(self._uri, error) from error

    @asynccontextmanager
    async def join(self, group: str, in_hand: int = IN_HAND) -> AsyncIterator[Deliveries]:
        """Join the consumers of a group; on exit, unacknowledged events go to the others.

        This consumer has at most `in_hand` unacknowledged events at a time.

        Raises:
            StoreUnavailable: no answer, or no such group.
        """
        client = self._connected()
        try:
            subscription = await client.read_subscription_to_all(
                group,
                event_buffer_size=in_hand,
                max_ack_batch_size=in_hand,
                max_ack_delay=ACK_DELAY,
            )
        except _FAILURES as error:
            raise refused(self._uri, error) from error
        deliveries = Deliveries(subscription, in_hand, self._opened)
        pump = asyncio.create_task(deliveries.pump())
        try:
            yield deliveries
        finally:
            try:
                with suppress(*_FAILURES, TimeoutError):
                    await let_go(subscription.stop(timeout=2))
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)

    async def position(self, group: str) -> int:
        """Return the position up to which every event of the group is acknowledged; 0: unknown.

        Raises:
            StoreUnavailable: no answer, or no such group.
        """
        try:
            info = await self._connected().get_subscription_info(group)
        except _FAILURES as error:
            raise refused(self._uri, error) from error
        return _commit_position(info.last_checkpointed_event_position)

    async def close(self) -> None:
        """Leave all groups and close the connection."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(*_FAILURES, ProgrammingError):  # ProgrammingError: it was never connected
                await let_go(client.close())

    def _connected(self) -> AsyncClient:
        if self._client is None:
            self._client = AsyncClient(self._uri)
        return self._client


def _commit_position(text: str | None) -> int:
    found = re.match(r"C:(\d+)", text or "")
    return int(found[1]) if found else 0
