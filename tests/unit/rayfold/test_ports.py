"""The ports on which a node's processes take calls."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from rayfold.runtime.ports import VARIABLE, rpc_ports, that_listens
from rayfold.runtime.rpc import RpcServer

HOST = "127.0.0.1"


async def unasked(request: object) -> object:
    """Answer nothing."""
    raise AssertionError(request)


@pytest.fixture
def pair() -> tuple[int, int]:
    """Return two ports in a row that are free."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind((HOST, 0))
            first: int = one.getsockname()[1]
            try:
                other.bind((HOST, first + 1))
            except OSError:
                continue
            return first, first + 1


async def test_servers_take_ports_of_the_range_and_no_others(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{pair[0]}-{pair[1]}")
    one, other, third = (RpcServer(unasked) for _ in range(3))
    taken = [(await each.address(HOST)).port for each in (one, other)]
    assert sorted(taken) == list(pair)
    with pytest.raises(OSError, match=f"every port of {VARIABLE} is taken: {pair[0]}-{pair[1]}"):
        await third.address(HOST)
    await one.close()
    assert (await third.address(HOST)).port == taken[0]
    await asyncio.gather(other.close(), third.close())


async def test_a_host_of_another_machine_is_told_at_the_first_port(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{pair[0]}-{pair[1]}")
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        await RpcServer(unasked).address("192.0.2.1")


def test_without_the_variable_any_port_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert rpc_ports() is None
    monkeypatch.setenv(VARIABLE, " ")
    assert rpc_ports() is None


@pytest.mark.parametrize(
    "text", ["20000", "0-10", "20000-19999", "1-65536", "a-b", "1-2-3", "-1-5"]
)
def test_an_invalid_range_of_ports_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=VARIABLE):
        rpc_ports()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_port_on_which_another_listens_first_is_taken(new_loop: Any) -> None:
    async def start(late: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return that_listens(await loop.create_server(asyncio.Protocol, sock=late))

    with (
        socket.socket() as first,
        socket.socket() as late,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        for each in (first, late):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind((HOST, 0))
        late.bind(first.getsockname())
        first.listen()
        with pytest.raises(OSError, match=r"in use|another process has just"):
            runner.run(start(late))
