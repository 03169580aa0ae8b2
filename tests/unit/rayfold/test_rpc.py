"""The direct connection between two processes, here both ends in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServer, RpcServerFailed

HOST = "127.0.0.1"
DEADLINE = 10.0


class Stubborn(Exception):
    """Cannot be made again from what pickle keeps of it."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


class Far:
    """A far end that does as it is asked."""

    def __init__(self) -> None:
        self.server = RpcServer(self.answer)
        self.hold = asyncio.Event()
        self.asked = asyncio.Event()
        self.found = 0

    async def find(self) -> Address:
        self.found += 1
        return await self.server.address(HOST)

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
async def far() -> AsyncIterator[Far]:
    far = Far()
    yield far
    far.hold.set()
    await far.server.close()


@pytest.fixture
async def link(far: Far) -> AsyncIterator[RpcClient]:
    link = RpcClient(far.find)
    async with asyncio.timeout(DEADLINE):
        yield link
    link.close()


async def test_many_calls_share_one_connection(far: Far, link: RpcClient) -> None:
    waiting = asyncio.create_task(link.call("wait"))
    await far.asked.wait()
    answers = await asyncio.gather(*(link.call(number) for number in range(100)))
    assert answers == [[number] for number in range(100)]
    assert not waiting.done()  # a slow one does not hold up the others
    far.hold.set()
    assert await waiting == ["wait"]
    assert far.found == 1


async def test_large_requests_and_answers_arrive_whole(link: RpcClient) -> None:
    large = bytes(range(256)) * 40_000
    assert await link.call(large) == [large]


async def test_what_the_far_end_raises_is_raised_here(link: RpcClient) -> None:
    with pytest.raises(RpcServerFailed, match="KeyError: 'refused'"):
        await link.call("refuse")
    assert await link.call(1) == [1]


async def test_an_answer_that_cannot_be_read_fails_one_call_alone(
    far: Far, link: RpcClient
) -> None:
    waiting = asyncio.create_task(link.call("wait"))
    await far.asked.wait()
    with pytest.raises(RpcServerFailed, match="Stubborn"):
        await link.call("stubborn")
    far.hold.set()
    assert await waiting == ["wait"]
    assert far.found == 1


async def test_what_was_asked_is_answered_before_the_far_end_closes(
    far: Far, link: RpcClient
) -> None:
    waiting = asyncio.create_task(link.call("wait"))
    await far.asked.wait()
    closing = asyncio.create_task(far.server.close())
    far.hold.set()
    assert await waiting == ["wait"]
    await closing


async def test_whoever_waits_is_told_that_the_far_end_went_away(far: Far, link: RpcClient) -> None:
    waiting = asyncio.create_task(link.call("wait"))
    await far.asked.wait()
    far.server.cut()
    with pytest.raises(RpcDisconnected):
        await waiting


async def test_a_far_end_that_came_back_is_found_again(far: Far, link: RpcClient) -> None:
    assert await link.call(1) == [1]
    await far.server.close()
    far.server = RpcServer(far.answer)
    while far.found == 1:
        try:
            assert await link.call(2) == [2]
        except RpcDisconnected:
            continue  # the news had not arrived yet
    assert far.found == 2


async def test_a_caller_that_gave_up_does_not_disturb_the_next(far: Far, link: RpcClient) -> None:
    waiting = asyncio.create_task(link.call("wait"))
    await far.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    far.hold.set()
    assert await link.call(1) == [1]


async def test_nobody_listens_to_whoever_has_no_key(far: Far) -> None:
    address = await far.find()

    async def wrong() -> Address:
        return address._replace(key=b"x" * len(address.key))

    with pytest.raises(RpcDisconnected):
        await RpcClient(wrong).call(1)


async def test_an_address_where_nobody_listens_breaks_the_link(far: Far) -> None:
    address = await far.find()
    await far.server.close()

    async def gone() -> Address:
        return address

    with pytest.raises(RpcDisconnected):
        await RpcClient(gone).call(1)
