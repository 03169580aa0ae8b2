"""Webhooks against receivers of every kind: late, broken, silent, endless, misleading."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from projections.publications.addresses import is_public
from projections.publications.errors import NotDelivered
from projections.publications.outgoing import Outgoing
from projections.publications.settings import WebhookTarget
from projections.publications.webhook import LONGEST_RETRY_AFTER, Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + "b2xkLXNlY3JldC1vbGQtc2VjcmV0LW9sZC1zZWNyZXQ="
EVENT = Outgoing("id-1", "a.b", "k", 1, "application/cloudevents+json", b'{"data": "caf\xc3\xa9"}')

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Receiving:
    """Requests that a receiver got: head and body of each."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@asynccontextmanager
async def receiver(
    answer: Answer, context: ssl.SSLContext | None = None
) -> AsyncIterator[Receiving]:
    """Listen on loopback; `answer` says what comes back, and then the connection ends."""
    receiving, handling = Receiving(), set[asyncio.Task[Any]]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            headers = {
                line.partition(":")[0].lower(): line.partition(": ")[2] for line in head[1:] if line
            }
            body = await reader.readexactly(int(headers["content-length"]))
            receiving.requests.append((headers, body))
            await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    receiving.port = server.sockets[0].getsockname()[1]
    try:
        yield receiving
    finally:
        server.close()
        for task in handling:
            task.cancel()


def says(head: str, body: bytes = b"") -> Answer:
    """Answer with that head and body."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


async def never(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def target(url: str, **options: Any) -> WebhookTarget:
    """Return one that may be at a private address, and answers within a second, or does not."""
    given = {"private_addresses": True, "timeout": 1.0, **options}
    return WebhookTarget(url, [SecretStr(SECRET)], **given)


async def refused(webhook: Webhook) -> NotDelivered:
    """Deliver; return why it was not taken."""
    try:
        with pytest.raises(NotDelivered) as caught:
            await webhook.deliver(EVENT)
        return caught.value
    finally:
        await webhook.close()


async def test_an_event_is_posted_and_signed() -> None:
    async with receiver(says("204 No Content")) as receiving:
        webhook = Webhook(target(receiving.url))
        await webhook.deliver(EVENT)
        await webhook.close()
    [(headers, body)] = receiving.requests
    assert body == EVENT.body
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-id"] == "id-1"
    assert Verifier(SECRET).verify(body, headers) == {"data": "café"}
    with pytest.raises(WebhookVerificationError):
        Verifier(OLD_SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(body + b" ", headers)


async def test_while_a_secret_is_replaced_requests_are_signed_with_both() -> None:
    async with receiver(says("200 OK")) as receiving:
        both = WebhookTarget(receiving.url, [SecretStr(SECRET), SecretStr(OLD_SECRET)], True)
        webhook = Webhook(both)
        await webhook.deliver(EVENT)
        await webhook.close()
    [(headers, body)] = receiving.requests
    Verifier(SECRET).verify(body, headers)
    Verifier(OLD_SECRET).verify(body, headers)


async def test_an_answer_that_comes_too_late_does_not_count() -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.0)
        await says("200 OK")(writer)

    async with receiver(late) as receiving:
        error = await refused(Webhook(target(receiving.url, timeout=0.2)))
    assert error.reason == "no answer in 0.2 s"


async def test_a_receiver_that_never_answers_is_given_up() -> None:
    async with receiver(never) as receiving:
        began = time.monotonic()
        error = await refused(Webhook(target(receiving.url, timeout=0.2)))
        assert time.monotonic() - began < 30
    assert error.reason == "no answer in 0.2 s"


async def test_a_receiver_that_answers_byte_by_byte_is_given_up_at_the_same_deadline() -> None:
    async def drips(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with receiver(drips) as receiving:
        error = await refused(Webhook(target(receiving.url, timeout=0.3)))
    assert error.reason == "no answer in 0.3 s"


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n")
        while True:
            writer.write(b"." * 65536)
            sent += 65536
            await writer.drain()

    async with receiver(endless) as receiving:
        webhook = Webhook(target(receiving.url, timeout=20.0))
        await webhook.deliver(EVENT)  # what it said first counts
        await webhook.close()
    assert sent < 64 * 1024 * 1024


async def test_a_head_without_end_is_refused() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-filler: " + b"." * 65536 + b"\r\n")
            await writer.drain()

    async with receiver(endless) as receiving:
        error = await refused(Webhook(target(receiving.url, timeout=20.0)))
    assert "RemoteProtocolError" in error.reason


@pytest.mark.parametrize("status", ["400 Bad Request", "410 Gone", "500 Oops", "503 Busy"])
async def test_an_error_status_means_that_the_event_was_not_accepted(status: str) -> None:
    async with receiver(says(status)) as receiving:
        error = await refused(Webhook(target(receiving.url)))
    assert error.reason == f"it answers {status[:3]}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("-7", 0.0),
        ("9" * 400, LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        (f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT", 0.0),
        ("²", 0.0),
    ],
)
async def test_a_receiver_may_say_when_to_try_again(value: str, seconds: float) -> None:
    async def busy(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Slow\r\nretry-after: " + value.encode("latin-1") + b"\r\n\r\n")
        await writer.drain()

    async with receiver(busy) as receiving:
        error = await refused(Webhook(target(receiving.url)))
    assert error.retry_after == seconds


@pytest.mark.parametrize("said", [b"", b"\x00\xff\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n"])
async def test_an_answer_that_is_not_http_is_an_error(said: bytes) -> None:
    async def other(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with receiver(other) as receiving:
        error = await refused(Webhook(target(receiving.url)))
    assert "ProtocolError" in error.reason


async def test_where_nobody_listens_is_an_error() -> None:
    async with receiver(never) as receiving:
        pass
    error = await refused(Webhook(target(receiving.url)))
    assert "127.0.0.1" in error.reason


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_to_a_private_address_is_not_followed(status: str) -> None:
    async with receiver(says("200 OK")) as private:
        head = f"{status}\r\nlocation: {private.url}"
        async with receiver(says(head)) as receiving:
            error = await refused(Webhook(target(receiving.url)))
    assert error.reason == f"{status[:3]}: redirects are not followed; give the URL itself"
    assert private.requests == []


async def test_a_private_address_is_refused_before_anything_is_sent() -> None:
    async with receiver(says("200 OK")) as receiving:
        error = await refused(Webhook(target(receiving.url, private_addresses=False)))
    assert "127.0.0.1, a private address" in error.reason
    assert receiving.requests == []


async def test_a_name_that_resolves_to_a_private_address_is_refused() -> None:
    async def private(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    options = {"private_addresses": False}
    error = await refused(Webhook(target("http://hooks.test/", **options), resolve=private))
    assert "hooks.test is at 10.0.0.1, a private address" in error.reason


async def test_a_name_is_resolved_once_so_it_cannot_change_after_the_check() -> None:
    """DNS rebinding: the address that is connected to is the one that was checked."""
    asked: list[str] = []

    async with receiver(says("200 OK")) as receiving:

        async def rebinding(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

        webhook = Webhook(target(f"http://hooks.test:{receiving.port}/"), resolve=rebinding)
        await webhook.deliver(EVENT)
        await webhook.close()
    assert asked == ["hooks.test"]
    [(headers, _)] = receiving.requests
    assert headers["host"] == f"hooks.test:{receiving.port}"


async def test_a_name_without_an_address_is_an_error() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    error = await refused(Webhook(target("http://hooks.test/"), resolve=unknown))
    assert "hooks.test has no address: no such host" in error.reason


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    for name, taken in (("hooks.test", True), ("127.0.0.1", False), ("other.test", False)):
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(serving)
        async with receiver(says("200 OK"), serving) as receiving:
            url = f"https://hooks.test:{receiving.port}/"
            webhook = Webhook(target(url), resolve=here, ssl_context=trusting)
            if taken:
                await webhook.deliver(EVENT)
                await webhook.close()
            else:
                assert "CERTIFICATE_VERIFY_FAILED" in (await refused(webhook)).reason
        assert len(receiving.requests) == taken


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::1", False),
    ],
)
def test_addresses_are_classified_as_public_or_private(address: str, public: bool) -> None:
    assert is_public(address) is public
