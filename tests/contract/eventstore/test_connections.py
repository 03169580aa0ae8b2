"""Connections, of which silent ones must not block others."""

import asyncio
import resource
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from kurrentdbclient import KurrentDBClient, StreamState

from eventstore.embedded.http2.frames import PING, PREFACE, frame, settings
from eventstore.embedded.server import AddressError, EmbeddedServer
from tests.contract.eventstore.making import event
from tests.contract.eventstore.process import ServerProcess

MUCH = 64 << 20
"""Bytes: more than all buffers between two of this machine hold."""


def test_silent_connections_keep_no_client_out_with_128_descriptors(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        server = ServerProcess(tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    host, _, port = server.target.rpartition(":")
    with ExitStack() as stack:
        busy = stack.enter_context(KurrentDBClient(server.uri))
        subscription = stack.enter_context(busy.subscribe_to_all())
        for _ in range(300):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        client = stack.enter_context(KurrentDBClient(server.uri))
        new = event()
        client.append_to_stream(
            "order-1", current_version=StreamState.NO_STREAM, events=new, timeout=10
        )
        assert next(subscription).id == new.id
    code, errors = server.stop()
    assert code == 0
    assert errors.count("too many connections") == 1


def test_a_connection_that_does_not_speak_http2_is_closed(server: ServerProcess) -> None:
    host, _, port = server.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as silent:
        while silent.recv(4096):
            pass  # the server's own greeting


def test_no_more_is_read_from_a_peer_that_does_not_read_its_answers(server: ServerProcess) -> None:
    """The answers were kept in memory for it: hundreds of megabytes."""
    host, _, port = server.target.rpartition(":")
    pings = frame(PING, 0, 0, b"answered") * 4096
    with socket.create_connection((host, int(port))) as flood, KurrentDBClient(server.uri) as other:
        flood.sendall(PREFACE + settings({}))
        flood.settimeout(2)
        sent = 0
        with suppress(TimeoutError):
            while sent < MUCH:
                sent += flood.send(pings)
        assert sent < MUCH
        other.append_to_stream(
            "order-flood", current_version=StreamState.ANY, events=event(), timeout=30
        )
        flood.settimeout(30)
        answered = bytearray()
        while answered.count(b"answered") < sent // 17:  # and all of it, once it reads
            more = flood.recv(1 << 20)
            assert more
            answered += more


def test_a_port_on_which_another_server_listens_first_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = socket.socket.bind
    with socket.socket() as first, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))

        def bind_as_the_other_does(late: socket.socket, address: Any) -> None:
            bind(late, address)
            first.listen()

        server = EmbeddedServer(tmp_path / "store", port=first.getsockname()[1])
        monkeypatch.setattr(socket.socket, "bind", bind_as_the_other_does)
        with pytest.raises(AddressError, match="is taken"):
            runner.run(server.start())
        runner.run(server.stop())
