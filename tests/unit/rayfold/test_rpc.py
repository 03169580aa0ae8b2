"""Calls from socket to socket, here both ends in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rayfold.runtime import heartbeat, rpc
from rayfold.runtime.rpc import (
    Address,
    RpcClient,
    RpcDisconnected,
    RpcServer,
    RpcServerFailed,
    RpcSilent,
)

HOST = "127.0.0.1"
DEADLINE = 10.0


class Stubborn(Exception):
    """Cannot be made again from what pickle keeps of it."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


class Server:
    """A server that does as it is asked."""

    def __init__(self) -> None:
        self.rpc = RpcServer(self.answer)
        self.hold = asyncio.Event()
        self.asked = asyncio.Event()
        self.found = 0

    async def find(self) -> Address:
        self.found += 1
        return await self.rpc.address(HOST)

    async def answer(self, request: Any) -> Any:
        if request == "wait":
            self.asked.set()
            await self.hold.wait()
        if request == "refuse":
            raise KeyError("refused")
        if request == "stubborn":
            return Stubborn(1, 2)
        return [request]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    server.hold.set()
    await server.rpc.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[RpcClient]:
    client = RpcClient(server.find)
    async with asyncio.timeout(DEADLINE):
        yield client
    client.close()


async def test_many_calls_share_one_connection(server: Server, client: RpcClient) -> None:
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    answers = await asyncio.gather(*(client.call(number) for number in range(100)))
    assert answers == [[number] for number in range(100)]
    assert not waiting.done()  # a slow one does not hold up the others
    server.hold.set()
    assert await waiting == ["wait"]
    assert server.found == 1


async def test_large_requests_and_answers_arrive_whole(client: RpcClient) -> None:
    large = bytes(range(256)) * 40_000
    assert await client.call(large) == [large]


async def test_an_error_of_the_server_is_raised_at_the_caller(client: RpcClient) -> None:
    with pytest.raises(RpcServerFailed, match="KeyError: 'refused'"):
        await client.call("refuse")
    assert await client.call(1) == [1]


async def test_an_unreadable_answer_fails_only_its_call(server: Server, client: RpcClient) -> None:
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    with pytest.raises(RpcServerFailed, match="Stubborn"):
        await client.call("stubborn")
    server.hold.set()
    assert await waiting == ["wait"]
    assert server.found == 1


async def test_calls_under_way_are_answered_before_the_server_closes(
    server: Server, client: RpcClient
) -> None:
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    closing = asyncio.create_task(server.rpc.close())
    server.hold.set()
    assert await waiting == ["wait"]
    await closing


async def test_waiting_callers_are_told_that_the_server_went_away(
    server: Server, client: RpcClient
) -> None:
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    server.rpc.cut()
    with pytest.raises(RpcDisconnected):
        await waiting


async def test_a_server_that_came_back_is_connected_to_again(
    server: Server, client: RpcClient
) -> None:
    assert await client.call(1) == [1]
    await server.rpc.close()
    server.rpc = RpcServer(server.answer)
    while server.found == 1:
        try:
            assert await client.call(2) == [2]
        except RpcDisconnected:
            continue  # the news had not arrived yet
    assert server.found == 2


async def test_a_caller_that_gave_up_does_not_disturb_the_next(
    server: Server, client: RpcClient
) -> None:
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    server.hold.set()
    assert await client.call(1) == [1]


async def test_a_caller_without_the_key_is_not_answered(server: Server) -> None:
    address = await server.find()

    async def wrong() -> Address:
        return address._replace(key=b"x" * len(address.key))

    with pytest.raises(RpcDisconnected):
        await RpcClient(wrong).call(1)


async def test_an_address_where_nobody_listens_is_an_error(server: Server) -> None:
    address = await server.find()
    await server.rpc.close()

    async def gone() -> Address:
        return address

    with pytest.raises(RpcDisconnected):
        await RpcClient(gone).call(1)


async def test_a_connection_that_does_not_send_the_key_is_closed(
    server: Server, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "GREETING", 0.01)
    assert await client.call(1) == [1]
    address = await server.find()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(address.key[:-1])
    with contextlib.suppress(ConnectionResetError):  # it may be ended before it has written
        assert await reader.read() == b""
    writer.close()
    assert await client.call(2) == [2]
    assert server.found == 2  # the client's own connection has stayed


async def test_connections_without_the_key_prevent_no_other(
    server: Server, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "STRANGERS", 3)
    address = await server.find()
    strangers = [await asyncio.open_connection(address.host, address.port) for _ in range(9)]
    assert await client.call(1) == [1]
    for reader, _ in strangers[:6]:
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    for _, writer in strangers:
        writer.close()


async def test_a_server_that_sends_no_heartbeat_is_given_up(
    server: Server, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    silent = asyncio.Event()
    client = RpcClient(server.find, on_silence=silent.set)
    waiting = asyncio.create_task(client.call("wait"))
    await server.asked.wait()
    await asyncio.sleep(0.2)
    assert not waiting.done()  # it is slow, and lives
    monkeypatch.setattr(rpc._Answering, "send", lambda *_: None)
    with pytest.raises(RpcSilent):
        await waiting
    assert silent.is_set()
    assert not client.connected


async def test_a_server_that_was_suspended_ignores_earlier_calls(
    server: Server, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await client.call(1) == [1]
    asked = asyncio.create_task(client.call("wait"))
    monkeypatch.setattr(heartbeat, "FROZEN", -1.0)
    with pytest.raises(RpcDisconnected):
        await asked
    assert not server.asked.is_set()
    monkeypatch.undo()
    assert await client.call(2) == [2]


async def _in_parts(request: Any, part: Any) -> Any:
    for each in range(request):
        part(each)
    return "whole"


async def _at_once(request: Any) -> Any:
    return f"{request} at once"


async def test_an_answer_may_come_in_parts() -> None:
    server = RpcServer(_at_once, _in_parts)
    client = RpcClient(lambda: server.address(HOST))
    async with asyncio.timeout(DEADLINE):
        parts: list[int] = []
        assert await client.call(3, parts.append) == "whole"
        assert parts == [0, 1, 2]
        assert await client.call(3) == "3 at once"  # who takes no parts is sent none
        client.close()
        await server.close()


async def test_a_server_without_partial_answers_answers_at_once() -> None:
    server = RpcServer(_at_once)
    client = RpcClient(lambda: server.address(HOST))
    async with asyncio.timeout(DEADLINE):
        parts: list[int] = []
        assert await client.call(3, parts.append) == "3 at once"
        assert parts == []
        client.close()
        await server.close()


async def test_a_partial_answer_that_cannot_be_handled_fails_only_its_call() -> None:
    server = RpcServer(_at_once, _in_parts)
    client = RpcClient(lambda: server.address(HOST))

    def refuse(part: int) -> None:
        raise ValueError(f"no part {part}")

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(RpcServerFailed, match="no part 0"):
            await client.call(2, refuse)
        assert await client.call(3) == "3 at once"
        client.close()
        await server.close()
