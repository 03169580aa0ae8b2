"""What is refused at the start, in one line, because it could never work on a cluster."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.errors import StartError
from deploy.stack import reaching
from deploy.stack.nodes import Node
from deploy.stack.reaching import check_cluster, check_ray

HERE, THERE, LOOPBACK = (Node(each, each) for each in ("10.0.0.1", "10.0.0.2", "127.0.0.1"))
STORE = "kdb://10.0.0.1:2113?Tls=false"
POSTGRES = "postgresql://user:p%40ss@10.0.0.1:5432/postgres"


@pytest.mark.parametrize(
    ("eventstore", "postgres"),
    [
        (STORE, POSTGRES),
        ("kdb://admin:changeit@one:2113,two:2113,three:2113", "postgresql://database/postgres"),
        ("kdb+discover://cluster.example:2113", "host=database port=5432"),
        ("kdb://[fd00::1]:2113", "postgresql://[fd00::1]/postgres"),
    ],
)
def test_stores_that_other_nodes_may_reach_are_accepted(eventstore: str, postgres: str) -> None:
    check_cluster([HERE, THERE], HERE.address, eventstore, postgres)


@pytest.mark.parametrize(
    ("eventstore", "postgres", "told"),
    [
        (None, POSTGRES, "10.0.0.2.* give --eventstore"),
        (STORE, None, "10.0.0.2.* give --postgres"),
        ("kdb://127.0.0.1:2113", POSTGRES, "127.0.0.1 .* --eventstore"),
        ("kdb://one:2113,localhost:2113", POSTGRES, "localhost .* --eventstore"),
        (STORE, "postgresql://[::1]:5432/postgres", "::1 .* --postgres"),
        (STORE, "postgresql:///postgres", "a socket .* --postgres"),
        (STORE, "host=/run/postgresql dbname=x", "/run/postgresql .* --postgres"),
    ],
)
def test_stores_that_other_nodes_do_not_reach_are_refused(
    eventstore: str | None, postgres: str | None, told: str
) -> None:
    with pytest.raises(StartError, match=told):
        check_cluster([HERE, THERE], HERE.address, eventstore, postgres)


def test_a_cluster_of_this_machine_alone_may_have_everything_here() -> None:
    for node in (HERE, LOOPBACK):
        check_cluster([node], node.address, None, "postgresql://127.0.0.1/postgres")


def test_a_node_on_loopback_beside_others_is_refused() -> None:
    for here in (HERE, LOOPBACK):
        with pytest.raises(StartError, match=r"node on 127\.0\.0\.1.*--node-ip-address"):
            check_cluster([HERE, LOOPBACK], here.address, STORE, POSTGRES)


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://10.0.0.1:10001", ":6379", "head:gcs"])
def test_an_invalid_address_of_the_head_is_refused(address: str) -> None:
    with pytest.raises(StartError, match="HOST:PORT"):
        check_ray(address)


@pytest.mark.parametrize("says", [b"\0", b""])
def test_an_address_where_something_answers_is_accepted(says: bytes) -> None:
    """Whatever answers there: with TLS it closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as beside:
        checking = beside.submit(check_ray, f"127.0.0.1:{server.getsockname()[1]}")
        head, _ = server.accept()
        with head:
            head.sendall(says)
        checking.result()


def test_a_head_that_hangs_is_reported_although_the_kernel_accepts_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartError, match=f"head at 127.0.0.1:{port} does not answer"):
            check_ray(f"127.0.0.1:{port}")


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StartError, match=f"no Ray answers at 127.0.0.1:{port}"):
        check_ray(f"127.0.0.1:{port}")
    check_ray("auto")
