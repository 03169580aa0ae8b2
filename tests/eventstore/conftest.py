"""One server for most tests; each test takes streams of its own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.protos.v1 import persistent_pb2_grpc

from tests.eventstore.process import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("store"))
    yield process
    code, errors = process.stop()
    assert (code, errors) == (0, "")


@pytest.fixture
def client(server: ServerProcess) -> Iterator[KurrentDBClient]:
    with KurrentDBClient(server.uri) as connected:
        yield connected


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as connected:
        yield connected


@pytest.fixture
def groups(channel: grpc.Channel) -> persistent_pb2_grpc.PersistentSubscriptionsStub:
    """Consumer groups as the wire has them, for what the client hides."""
    return persistent_pb2_grpc.PersistentSubscriptionsStub(channel)


@pytest.fixture
def name() -> str:
    return f"stream-{uuid.uuid4()}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers on the test's own folder; whatever still runs is killed in the end."""
    started: list[ServerProcess] = []

    def begin(*flags: str, data: Path = tmp_path / "store") -> ServerProcess:
        started.append(ServerProcess(data, 0, *flags))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
