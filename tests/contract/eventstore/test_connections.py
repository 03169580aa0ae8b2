"""Who says nothing keeps nobody out."""

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from kurrentdbclient import KurrentDBClient, StreamState

from tests.contract.eventstore.making import event
from tests.contract.eventstore.process import ServerProcess


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
