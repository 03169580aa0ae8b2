"""Webhooks: each event is posted, signed by Standard Webhooks. Redirects are not followed.

A receiver is not ours: it may hang, answer very slowly or endlessly, or direct us to addresses that
only we can reach. So an attempt has one deadline for everything, answers are read up to a limit,
and the address is checked.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
from standardwebhooks.webhooks import Webhook as Signer

from projections.publications.addresses import CheckedBackend, ForbiddenAddress, Resolve, resolve
from projections.publications.errors import NotDelivered
from projections.publications.outgoing import Outgoing
from projections.publications.settings import WebhookTarget

MOST_ANSWER = 64 * 1024
"""The most bytes of an answer that are read; then the connection is closed."""

LONGEST_RETRY_AFTER = 3600.0

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    ssl.SSLError,
    OSError,
)


class Webhook:
    """Posts to one URL."""

    def __init__(
        self,
        target: WebhookTarget,
        *,
        resolve: Resolve = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`resolve` returns the addresses of a name; `ssl_context` has the trusted certificates."""
        self._target = target
        self._signers = [Signer(each.get_secret_value()) for each in target.secrets]
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=target.connections,
            keepalive_expiry=30.0,
            network_backend=CheckedBackend(private=target.private_addresses, resolve=resolve),
        )

    async def deliver(self, outgoing: Outgoing) -> None:
        """See `Receiver.deliver`; every 2xx status counts as accepted."""
        try:
            async with asyncio.timeout(self._target.timeout):
                status, retry_after = await self._post(outgoing)
        except TimeoutError as error:
            raise NotDelivered(f"no answer in {self._target.timeout:g} s") from error
        except ForbiddenAddress as error:
            raise NotDelivered(str(error)) from error
        except _FAILURES as error:
            raise NotDelivered(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if 300 <= status < 400:
            raise NotDelivered(f"{status}: redirects are not followed; give the URL itself")
        if not 200 <= status < 300:
            raise NotDelivered(f"it answers {status}", retry_after)

    async def close(self) -> None:
        """See `Receiver.close`."""
        await self._pool.aclose()

    async def _post(self, outgoing: Outgoing) -> tuple[int, float]:
        now = datetime.now(UTC)
        text = outgoing.body.decode()
        signatures = [each.sign(outgoing.id, now, text) for each in self._signers]
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": outgoing.content_type,
            "Content-Length": str(len(outgoing.body)),
            "User-Agent": "rayfold",
            "webhook-id": outgoing.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        if outgoing.traceparent:
            headers["traceparent"] = outgoing.traceparent
        request = self._pool.stream(
            "POST", self._target.url, headers=headers, content=outgoing.body
        )
        async with request as answer:
            read = 0
            async for chunk in answer.aiter_stream():
                read += len(chunk)
                if read > MOST_ANSWER:
                    break  # leaving the block closes the connection
            return answer.status, _retry_after(answer.headers, now)


def _retry_after(headers: list[tuple[bytes, bytes]], now: datetime) -> float:
    for name, value in headers:
        if name.lower() == b"retry-after":
            return max(0.0, min(_seconds(value.decode("latin-1"), now), LONGEST_RETRY_AFTER))
    return 0.0


def _seconds(text: str, now: datetime) -> float:
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp()
