"""How clients find the node: what gossip tells, several targets, node preferences."""

import socket
from collections.abc import Iterator

import grpc
import pytest
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import (
    FollowerNotFoundError,
    ReadOnlyReplicaNotFoundError,
    ServiceUnavailableError,
)
from kurrentdbclient.protos.v1 import gossip_pb2_grpc, shared_pb2

from tests.contract.eventstore.process import ServerProcess

ONCE = "?Tls=false&MaxDiscoverAttempts=1&DiscoveryInterval=0&GossipTimeout=5"


@pytest.fixture
def dead() -> Iterator[str]:
    """A target that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_gossip_tells_the_address_that_was_dialled(server: ServerProcess, host: str) -> None:
    port = server.target.rpartition(":")[2]
    with KurrentDBClient(f"kdb://{host}:{port}?Tls=false") as client:
        (member,) = client.read_gossip()
    assert (member.address, member.port) == (host, int(port))


@pytest.mark.parametrize(
    ("authority", "told"),
    [
        ("store.example:7000", "store.example:7000"),
        ("[::1]:7000", "[::1]:7000"),
        ("store.example", None),
        ("store.example:70000", None),
        ("store.example:seven", None),
        (":7000", None),
    ],
)
def test_gossip_tells_the_bound_address_where_none_is_named(
    server: ServerProcess, authority: str, told: str | None
) -> None:
    options = [("grpc.default_authority", authority)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        (member,) = gossip_pb2_grpc.GossipStub(channel).Read(shared_pb2.Empty()).members
    end = member.http_end_point
    assert f"{end.address}:{end.port}" == (told or server.target)


def test_a_dead_target_is_passed_over(server: ServerProcess, dead: str) -> None:
    with KurrentDBClient(f"kdb://{dead},{server.target}{ONCE}") as client:
        client.get_commit_position()
        assert client.connection_target == server.target


def test_only_a_leader_is_found(server: ServerProcess) -> None:
    uri = f"kdb+discover://{server.target}{ONCE}&NodePreference="
    for preference in ("leader", "random"):
        with KurrentDBClient(uri + preference) as client:
            assert client.connection_target == server.target
    with pytest.raises(FollowerNotFoundError):
        KurrentDBClient(uri + "follower")
    with pytest.raises(ReadOnlyReplicaNotFoundError):
        KurrentDBClient(uri + "readonlyreplica")


def test_a_client_that_lost_its_node_finds_it_again(server: ServerProcess, dead: str) -> None:
    with KurrentDBClient(server.uri) as client:
        for call in (client.get_commit_position, client.list_subscriptions, client.read_gossip):
            client._connection.close()
            client._connection = client._construct_esdb_connection(dead)
            call()
        client._connection = client._construct_esdb_connection(dead)
        with pytest.raises(ServiceUnavailableError):
            list(client.read_all())  # what is read lazily is not asked again
