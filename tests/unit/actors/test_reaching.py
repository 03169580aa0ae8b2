"""What process actors ask the owner of a stack: where commands go, and missing actors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.processes import reaching
from actors.processes.reaching import Switchboard
from rayfold.runtime.rpc import RpcClient, RpcDisconnected, RpcServerFailed


class Owner:
    """A table that a test changes, and the streams that an actor was wanted for."""

    def __init__(self) -> None:
        self.version = 1
        self.actors = ["a"]
        self.made: list[str] = []

    def routes(self) -> tuple[int, dict[str, Any]]:
        return 7, {"version": self.version, "hosts": [{"actor": each} for each in self.actors]}

    async def make(self, stream: str) -> None:
        if stream == "full":
            raise RuntimeError("no room")
        self.made.append(stream)


async def asking(owner: Owner) -> tuple[Switchboard, RpcClient]:
    board = Switchboard(owner.routes, owner.make)
    return board, RpcClient(lambda: board.address("127.0.0.1"))


async def test_a_routing_table_is_answered_at_once_and_then_when_it_changes() -> None:
    owner = Owner()
    board, client = await asking(owner)
    first = await client.call(("routes", None))
    assert first == owner.routes()
    for change in ("version", "actors"):
        waiting = asyncio.create_task(client.call(("routes", reaching._mark(*first))))
        await asyncio.sleep(2 * reaching.LOOK)
        assert not waiting.done()
        if change == "version":
            owner.version += 1
        else:
            owner.actors = ["b"]  # the same shards, at another actor
        async with asyncio.timeout(60):
            first = await waiting
        assert first == owner.routes()
    client.close()
    await board.close()


async def test_a_long_poll_is_answered_after_a_while_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "POLL", 0.0)
    owner = Owner()
    board, client = await asking(owner)
    mark = reaching._mark(*owner.routes())
    assert await client.call(("routes", mark)) == owner.routes()
    client.close()
    await board.close()


async def test_an_open_long_poll_does_not_delay_the_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "POLL", 600.0)
    owner, stays = Owner(), asyncio.Event()

    def routes() -> tuple[int, dict[str, Any]]:
        stays.set()
        return owner.routes()

    board = Switchboard(routes, owner.make)
    client = RpcClient(lambda: board.address("127.0.0.1"))
    asked = asyncio.create_task(client.call(("routes", reaching._mark(*owner.routes()))))
    async with asyncio.timeout(30):
        await stays.wait()
        await board.close()
        with pytest.raises(RpcDisconnected):
            await asked


async def test_an_actor_that_does_not_exist_is_requested_from_the_owner() -> None:
    owner = Owner()
    board, client = await asking(owner)
    await client.call(("dedicated", "stock-tea"))
    assert owner.made == ["stock-tea"]
    with pytest.raises(RpcServerFailed, match="no room"):
        await client.call(("dedicated", "full"))
    client.close()
    await board.close()
