"""NATS JetStream: an event counts as accepted once a stream has stored it.

`Nats-Msg-Id` is the event's id: a repeat within the stream's window for duplicates, two minutes by
default, is stored once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NoStreamResponseError

from projections.publications.errors import NotDelivered
from projections.publications.nats_credentials import credentials_of, signing
from projections.publications.outgoing import Outgoing
from projections.publications.settings import NatsTarget

CONNECT = 5.0
"""Seconds that connecting may take."""


class JetStream:
    """Publishes below one subject."""

    def __init__(self, target: NatsTarget) -> None:
        self._target = target
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def deliver(self, outgoing: Outgoing) -> None:
        """See `Receiver.deliver`."""
        subject = f"{self._target.subject}.{outgoing.name}"
        headers = {"Nats-Msg-Id": outgoing.id, "content-type": outgoing.content_type}
        if outgoing.traceparent:
            headers["traceparent"] = outgoing.traceparent
        try:
            async with asyncio.timeout(CONNECT + self._target.timeout):
                client = await self._connected()
                await client.jetstream().publish(
                    subject, outgoing.body, timeout=self._target.timeout, headers=headers
                )
        except NoStreamResponseError as error:
            raise NotDelivered(f"no JetStream stream takes {subject!r}: make one") from error
        except (NatsError, OSError, TimeoutError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}".rstrip(": ")) from error

    async def close(self) -> None:
        """See `Receiver.close`."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(NatsError, OSError, TimeoutError):
                await client.close()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is not None and self._client.is_closed:
                self._client = None
            if self._client is None:
                if self._target.credentials is not None:
                    # A broken file raises here: the client would retry until the deadline.
                    credentials_of(self._target.credentials)
                client = Client()
                try:
                    await client.connect(
                        [each.get_secret_value() for each in self._target.servers],
                        name="rayfold",
                        connect_timeout=int(CONNECT),
                        allow_reconnect=True,
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=1,
                        error_cb=_said_by_others,
                        **signing(self._target.credentials),
                    )
                except BaseException:
                    with suppress(Exception):  # a client that never connected refuses even that
                        await client.close()
                    raise
                self._client = client
            return self._client


async def _said_by_others(error: Exception) -> None:
    """Do nothing: each failed delivery has the reason, which its publication shows."""
