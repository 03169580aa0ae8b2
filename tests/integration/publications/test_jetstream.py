"""Publications to a real `nats-server`: stored once, also when it is killed and told again."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from projections.publications import jetstream
from projections.publications.errors import NotDelivered
from projections.publications.jetstream import JetStream
from projections.publications.outgoing import Outgoing
from projections.publications.settings import NatsTarget
from tests.nats_accounts import Accounts
from tests.nats_server import NatsServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """One with a folder of its own."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def publishing(server: NatsServer) -> AsyncIterator[JetStream]:
    """A publication's way to it."""
    target = NatsTarget([SecretStr(server.url)], "shop", timeout=1.0)
    made = JetStream(target)
    yield made
    await made.close()


def event(number: int) -> Outgoing:
    """Return an event."""
    body = json.dumps({"data": {"number": number}}).encode()
    return Outgoing(f"id-{number}", "order.shipped", "k", number, "application/json", body)


async def test_events_are_stored_below_the_subject_with_their_ids(
    server: NatsServer, publishing: JetStream
) -> None:
    await server.make_stream("SHOP", "shop")
    for number in (1, 2):
        await publishing.deliver(event(number))
    stored = await server.messages("SHOP")
    assert [subject for subject, _, _ in stored] == ["shop.order.shipped"] * 2
    assert [headers["nats-msg-id"] for _, headers, _ in stored] == ["id-1", "id-2"]
    assert [json.loads(data)["data"]["number"] for _, _, data in stored] == [1, 2]
    assert stored[0][1]["content-type"] == "application/json"


async def test_an_event_that_is_sent_again_is_stored_once(
    server: NatsServer, publishing: JetStream
) -> None:
    await server.make_stream("SHOP", "shop")
    for _ in range(3):
        await publishing.deliver(event(1))
    assert len(await server.messages("SHOP")) == 1


async def test_an_error_says_that_no_jetstream_stream_accepts_the_subject(
    server: NatsServer, publishing: JetStream
) -> None:
    with pytest.raises(NotDelivered, match=r"no JetStream stream takes 'shop\.order\.shipped'"):
        await publishing.deliver(event(1))


async def test_a_server_that_was_killed_is_connected_to_again(
    server: NatsServer, publishing: JetStream
) -> None:
    await server.make_stream("SHOP", "shop")
    await publishing.deliver(event(1))
    server.kill()
    with pytest.raises(NotDelivered):
        await publishing.deliver(event(2))
    server.start()
    while True:
        try:
            await publishing.deliver(event(2))
            break
        except NotDelivered:
            continue
    stored = await server.messages("SHOP")
    assert [headers["nats-msg-id"] for _, headers, _ in stored] == ["id-1", "id-2"]


async def test_a_server_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "CONNECT", 1.0)
    absent = NatsServer(tmp_path)
    publishing = JetStream(NatsTarget([SecretStr(absent.url)], "shop", timeout=0.2))
    with pytest.raises(NotDelivered):
        await publishing.deliver(event(1))
    await publishing.close()


async def test_a_silent_server_does_not_get_one_more_connection_for_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jetstream, "CONNECT", 1.0)
    open_ones: set[asyncio.StreamWriter] = set()
    made = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        open_ones.add(writer)
        with suppress(OSError):
            await reader.read()  # until it is closed
        open_ones.discard(writer)
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    publishing = JetStream(
        NatsTarget([SecretStr(url)], "shop", timeout=1.5)
    )  # in its second attempt
    gc.disable()  # it would close what nobody else does
    try:
        for number in range(2):
            with pytest.raises(NotDelivered):
                await publishing.deliver(event(number))
        async with asyncio.timeout(30):
            while open_ones:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
        await publishing.close()
        server.close()
    assert made >= 2


async def test_servers_that_cannot_be_used_together_are_reported() -> None:
    servers = [SecretStr("nats://127.0.0.1:1"), SecretStr("ws://127.0.0.1:1")]
    publishing = JetStream(NatsTarget(servers, "shop", timeout=1.0))
    with pytest.raises(NotDelivered, match="mix"):
        await publishing.deliver(event(1))
    await publishing.close()


async def test_credentials_are_sent_to_a_server_that_requires_them(tmp_path: Path) -> None:
    accounts, file = Accounts(), tmp_path / "user.creds"
    accounts.write_credentials(file)
    server = NatsServer(tmp_path, accounts.config, file)
    server.start()
    target = NatsTarget([SecretStr(server.url)], "shop", str(file), timeout=1.0)
    publishing, stranger = JetStream(target), JetStream(replace(target, credentials=None))
    try:
        await server.make_stream("SHOP", "shop")
        with pytest.raises(NotDelivered):
            await stranger.deliver(event(1))
        await publishing.deliver(event(1))
        assert len(await server.messages("SHOP")) == 1
    finally:
        await publishing.close()
        await stranger.close()
        server.kill()


async def test_replaced_credentials_are_used_for_the_next_connection(
    tmp_path: Path,
) -> None:
    accounts, file = Accounts(), tmp_path / "user.creds"
    accounts.write_credentials(file)
    server = NatsServer(tmp_path, accounts.config, file)
    server.start()
    publishing = JetStream(NatsTarget([SecretStr(server.url)], "shop", str(file), timeout=1.0))
    try:
        await server.make_stream("SHOP", "shop")
        await publishing.deliver(event(1))
        server.kill()
        others = Accounts()  # the first user's are worth nothing there
        others.write_credentials(file)
        (tmp_path / "after").mkdir()
        after = NatsServer(tmp_path / "after", others.config, file)
        after.port, after.url = server.port, server.url
        server = after
        server.start()
        await server.make_stream("SHOP", "shop")
        async with asyncio.timeout(60):
            while True:
                with suppress(NotDelivered):
                    await publishing.deliver(event(2))
                    break
        assert [each["nats-msg-id"] for _, each, _ in await server.messages("SHOP")] == ["id-2"]
    finally:
        await publishing.close()
        server.kill()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "no user's JWT"),
        ("-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n", "no user's key"),
    ],
)
async def test_an_invalid_credentials_file_is_reported_at_once(
    tmp_path: Path, written: str, said: str
) -> None:
    file = tmp_path / "user.creds"
    file.write_text(written)
    servers = [SecretStr("nats://127.0.0.1:1")]  # nobody is there, nor is asked
    publishing = JetStream(NatsTarget(servers, "shop", str(file), timeout=1.0))
    with pytest.raises(NotDelivered, match=said):
        await publishing.deliver(event(1))
    await publishing.close()
