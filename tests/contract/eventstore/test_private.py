"""A private server serves its own user, and no other of the machine."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

import pytest
import uvloop
from kurrentdbclient import KurrentDBClient, StreamState

from eventstore.embedded.http2 import peer_user
from eventstore.embedded.server import EmbeddedServer
from tests.contract.eventstore.making import event
from tests.contract.eventstore.process import ServerProcess
from tests.own_loop import own_loop

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
OURS, CLIENTS = 2113, 40000
SOMEBODY = 12_345


def table(*ends: tuple[int, int, str, int]) -> str:
    """What the kernel tells of these: both ports, a state, a user."""
    line = (
        "   0: 0100007F:{:04X} 0100007F:{:04X} {} 00000000:00000000 00:00000000 00000000 {} 0 1\n"
    )
    return HEADER + "".join(line.format(*end) for end in ends)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's table."""
    file = tmp_path / "tcp"
    monkeypatch.setattr(peer_user, "_TABLES", (file,))
    return file


@pytest.mark.parametrize(
    ("ends", "ours"),
    [
        ([(CLIENTS, OURS, "01", os.geteuid())], True),
        ([(CLIENTS, OURS, "01", peer_user.ROOT)], True),
        ([(CLIENTS, OURS, "01", SOMEBODY)], False),
        ([(CLIENTS, OURS, "05", peer_user.ROOT)], False),  # closed: nobody's
        ([(OURS, CLIENTS, "01", os.geteuid())], False),  # our own end
        ([(CLIENTS + 1, OURS, "01", os.geteuid())], False),
        # The same ports at another address of loopback.
        ([(CLIENTS, OURS, "01", os.geteuid()), (CLIENTS, OURS, "01", SOMEBODY)], False),
        ([], False),
    ],
)
def test_the_kernel_says_whether_the_other_end_belongs_to_our_user(
    told: Path, ends: list[tuple[int, int, str, int]], ours: bool
) -> None:
    told.write_text(table(*ends))
    assert peer_user.is_ours(OURS, CLIENTS) is ours


def test_a_connection_of_our_user_is_recognised_until_it_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer_port = client.getsockname()[1]
            assert peer_user.is_ours(port, peer_port)
        assert not peer_user.is_ours(port, peer_port)


def test_its_own_user_is_served(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "store", 0, "--private")
    with KurrentDBClient(server.uri) as client:
        client.append_to_stream("order-1", current_version=StreamState.ANY, events=event())
    assert server.stop() == (0, "")


@own_loop
async def test_another_user_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedServer(tmp_path / "store", port=0, private=True)
    await server.start()
    try:
        monkeypatch.setattr(peer_user, "ROOT", SOMEBODY)
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read() == b""
            writer.close()
    finally:
        await server.stop()
    assert caplog.messages == ["connections of another user of this machine are refused"]


def test_a_client_that_leaves_before_it_was_checked_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def come_and_go() -> None:
        server = EmbeddedServer(tmp_path / "store", port=0, private=True)
        await server.start()
        try:
            with socket.create_connection(("127.0.0.1", server.port)) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read(1)  # the server greets
            writer.close()
        finally:
            await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the process has it
        runner.run(come_and_go())
    assert caplog.messages == []
