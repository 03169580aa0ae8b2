"""A slow command delays neither the rest of its batch nor the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import NoRoom, Overloaded, Unavailable
from actors.host.host_actor import _told_as_they_come
from actors.placement import host_client
from actors.placement.host_client import HostClient
from domain.inventory.stock import ReceiveStock
from rayfold import Registry, Rejected
from rayfold.runtime.rpc import RpcDisconnected

DEADLINE = 10.0


class Rpc:
    """A host that has an outcome for all but `slow` stock; `hold` is until when that takes."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.slow = "sku-slow"
        self.hold: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tells_nothing = False
        """Whether it says of a batch without an outcome that it has none."""
        self.connected = True
        self.closed = 0

    async def connect(self) -> None:
        pass

    async def call(self, request: Any, on_part: Callable[[Any], None]) -> list[Any]:
        *_, commands, _ = request
        streams = [each[1] for each in commands]
        self.batches.append(streams)
        known = [at for at, stream in enumerate(streams) if self.slow not in stream]
        if len(known) < len(streams):
            if known or self.tells_nothing:
                on_part([(at, (at, 7)) for at in known])
            await asyncio.shield(self.hold)
        return [(at, 9) for at in range(len(streams))]

    def close(self) -> None:
        self.closed += 1


async def _nobody() -> Any:
    raise AssertionError("this test must not look for an actor")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("domain")


@pytest.fixture
async def rpc() -> Rpc:
    return Rpc()


@pytest.fixture
async def client(rpc: Rpc) -> HostClient:
    made = HostClient(_nobody)
    made._rpc = rpc  # type: ignore[assignment]
    return made


@pytest.fixture
def stock(registry: Registry) -> Callable[..., Envelope]:
    def of(sku: str, timeout: float = 60) -> Envelope:
        return enclose(registry, ReceiveStock(sku=sku, quantity=1), timeout=timeout)

    return of


async def _together(client: HostClient, *envelopes: Envelope) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(client.send(each)) for each in envelopes]
    await asyncio.sleep(0)
    return tasks


async def test_the_other_commands_are_answered_and_the_next_batch_is_sent(
    client: HostClient, rpc: Rpc, stock: Callable[..., Envelope]
) -> None:
    async with asyncio.timeout(DEADLINE):
        fast, slow = await _together(client, stock("sku-fast"), stock("sku-slow"))
        assert await fast == Done(0, 7)
        assert await client.send(stock("sku-next")) == Done(0, 9)
        assert not slow.done()
        rpc.hold.set_result(None)
        assert await slow == Done(1, 9)
        assert [len(each) for each in rpc.batches] == [2, 1]
        await client.idle()
        await client.close()


async def test_a_command_that_was_answered_is_not_sent_again(
    client: HostClient, rpc: Rpc, stock: Callable[..., Envelope]
) -> None:
    """A command whose refusal was answered must not succeed later."""
    async with asyncio.timeout(DEADLINE):
        fast, slow = await _together(client, stock("sku-fast"), stock("sku-slow"))
        assert await fast == Done(0, 7)
        rpc.slow = "nothing"
        rpc.hold.set_exception(RpcDisconnected("it died"))
        assert await slow == Done(0, 9)
        assert rpc.batches == [["stock-sku-fast", "stock-sku-slow"], ["stock-sku-slow"]]
        await client.close()


async def test_a_host_that_answers_others_is_not_cut_off(
    client: HostClient,
    rpc: Rpc,
    stock: Callable[..., Envelope],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asyncio.timeout(DEADLINE):
        fast, slow = await _together(client, stock("sku-fast", 0.3), stock("sku-slow", 0.3))
        assert await fast == Done(0, 7)
        assert isinstance(await slow, Unavailable)
        assert rpc.closed == 0
        monkeypatch.setattr(host_client, "ATTEMPT_TIMEOUT", 0.1)
        assert isinstance(await client.send(stock("sku-slow", 0.3)), Unavailable)
        assert rpc.closed > 0  # this one has said nothing at all
        await client.close()


async def test_the_number_of_commands_without_an_outcome_is_bounded(
    client: HostClient,
    rpc: Rpc,
    stock: Callable[..., Envelope],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow commands that block no batch count too, or a client could have any number of them."""
    monkeypatch.setattr(host_client, "MAX_OUTSTANDING", 3)
    async with asyncio.timeout(DEADLINE):
        slow = []
        for _ in range(2):
            fast, late = await _together(client, stock("sku-fast"), stock("sku-slow"))
            slow.append(late)
            assert await fast == Done(0, 7)
        [third] = await _together(client, stock("sku-slow"))
        assert isinstance(await client.send(stock("sku-fast")), Overloaded)
        rpc.hold.set_result(None)
        assert [await each for each in (*slow, third)] == [Done(1, 9), Done(1, 9), Done(0, 9)]
        assert await client.send(stock("sku-fast")) == Done(0, 9)
        await client.close()


async def test_callers_that_wait_get_an_answer_when_the_client_closes(
    client: HostClient, stock: Callable[..., Envelope]
) -> None:
    async with asyncio.timeout(DEADLINE):
        fast, slow = await _together(client, stock("sku-fast"), stock("sku-slow"))
        assert await fast == Done(0, 7)
        await client.close()
        assert isinstance(await slow, Unavailable)


async def test_outcomes_are_sent_as_they_come() -> None:
    loop = asyncio.get_running_loop()
    coming: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4)]
    parts: asyncio.Queue[Any] = asyncio.Queue()
    coming[2].set_result(Done(5, 6))
    telling = asyncio.create_task(_told_as_they_come(coming, parts.put_nowait))
    async with asyncio.timeout(DEADLINE):
        assert await parts.get() == [(2, (5, 6))]
        coming[0].set_result(Rejected("rule", "no"))
        [(at, refusal)] = await parts.get()
        assert at == 0
        assert isinstance(refusal, Rejected)
        for each in (coming[1], coming[3]):
            each.set_result(Done(1, 2))
        await telling
    assert parts.empty()  # what came last is the answer itself


async def test_the_next_batch_does_not_wait_for_one_that_has_no_outcome_yet() -> None:
    coming: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future()]
    parts: asyncio.Queue[Any] = asyncio.Queue()
    telling = asyncio.create_task(_told_as_they_come(coming, parts.put_nowait))
    async with asyncio.timeout(DEADLINE):
        assert await parts.get() == []
        coming[0].set_result(Done(1, 2))
        await telling
    assert parts.empty()


async def test_an_empty_part_of_an_answer_lets_the_next_batch_be_sent(
    client: HostClient, rpc: Rpc, stock: Callable[..., Envelope]
) -> None:
    async with asyncio.timeout(DEADLINE):
        rpc.tells_nothing = True
        [slow] = await _together(client, stock("sku-slow"))
        [fast] = await _together(client, stock("sku-fast"))
        assert await fast == Done(0, 9)
        assert not slow.done()
        rpc.hold.set_result(None)
        assert await slow == Done(0, 9)
        await client.close()


async def test_outcomes_that_are_ready_at_once_are_sent_once() -> None:
    loop = asyncio.get_running_loop()
    coming: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4)]
    for each in coming:
        loop.call_soon(each.set_result, Done(1, 2))
    parts: list[Any] = []
    await _told_as_they_come(coming, parts.append)
    assert parts == []


@pytest.mark.parametrize("is_told", [True, False], ids=["by the host", "as there is no host"])
@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_command_that_may_be_done_is_not_answered_as_refused_for_lack_of_room(
    client: HostClient,
    rpc: Rpc,
    stock: Callable[..., Envelope],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_told: bool,
    was_sent: bool,
) -> None:
    """A first attempt that was never sent does not count; there is no room for the second."""
    attempts = 0

    async def connect() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1 and not was_sent:
            raise RpcDisconnected("no actor is named so")
        if attempts == 2 and not is_told:
            raise NoRoom(2)

    async def call(*_: Any) -> list[Any]:
        if attempts == 1:
            raise RpcDisconnected("it died")
        return [NoRoom(2)]

    monkeypatch.setattr(rpc, "connect", connect)
    monkeypatch.setattr(rpc, "call", call)
    async with asyncio.timeout(DEADLINE):
        outcome = await client.send(stock("sku-tea"))
        await client.close()
    assert type(outcome) is (Unavailable if was_sent else NoRoom)
    assert outcome.retry_after == 2  # type: ignore[union-attr]
