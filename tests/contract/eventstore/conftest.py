"""One server for most tests; each test takes streams of its own."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.common import BaseGrpcStreamers
from kurrentdbclient.protos.v1 import persistent_pb2_grpc

from tests.contract.eventstore.process import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("store"))
    yield process
    code, errors = process.stop()
    assert (code, errors) == (0, "")


@pytest.fixture(autouse=True, scope="session")
def reentrant_client() -> Iterator[None]:
    """Lets the client's iterators be collected at any moment.

    `__del__` of one that was left unfinished takes the lock of its connection's streams, and the
    garbage collector may call it while this very thread holds that lock (1.3.5): it then waits for
    itself for ever, seldom, and once in our CI.
    """
    make = BaseGrpcStreamers.__init__

    def make_reentrant(streamers: Any) -> None:
        make(streamers)
        streamers.lock = threading.RLock()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseGrpcStreamers, "__init__", make_reentrant)
        yield


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
