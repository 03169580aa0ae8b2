"""The listener with TLS: what it prints, who is let in, and what keeps it from starting."""

import asyncio
import re
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    FollowerNotFoundError,
    ServiceUnavailableError,
    SSLError,
    UnauthenticatedError,
)
from kurrentdbclient.protos.v1 import gossip_pb2_grpc, shared_pb2

from eventstore.embedded.http2.tls import TlsError, tls_context
from tests.contract.eventstore.making import event, events, take
from tests.contract.eventstore.process import ServerProcess
from tests.stack import rayfold

ANY = StreamState.ANY


class Files(NamedTuple):
    """A certificate, its key, the root that it is checked against, and keys that won't do."""

    certificate: Path
    private_key: Path
    root: bytes
    other_key: Path
    locked_key: Path

    @property
    def flags(self) -> list[str]:
        return flags(self.certificate, self.private_key)


def flags(certificate: Path, private_key: Path) -> list[str]:
    return ["--tls-certificate", str(certificate), "--tls-private-key", str(private_key)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    # Here, so that an environment without them loses these tests alone.
    import trustme
    from cryptography.hazmat.primitives import serialization

    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    mine, other = (authority.issue_cert("localhost", "127.0.0.1") for _ in range(2))
    made = Files(
        folder / "certificate.pem",
        folder / "key.pem",
        authority.cert_pem.bytes(),
        folder / "other.pem",
        folder / "locked.pem",
    )
    for number, blob in enumerate(mine.cert_chain_pems):
        blob.write_to_path(made.certificate, append=number > 0)
    mine.private_key_pem.write_to_path(made.private_key)
    other.private_key_pem.write_to_path(made.other_key)
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    made.locked_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return made


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("store"), 0, *files.flags)
    yield process
    # Nothing on stderr: a peer that breaks off a handshake is no incident.
    assert process.stop() == (0, "")


@pytest.fixture
def connect(secure: ServerProcess, files: Files) -> Iterator[Callable[..., KurrentDBClient]]:
    connected: list[KurrentDBClient] = []

    def make(uri: str = secure.uri) -> KurrentDBClient:
        connected.append(KurrentDBClient(uri, root_certificates=files.root))
        return connected[-1]

    yield make
    for client in connected:
        client.close()


@pytest.fixture
def gossip(secure: ServerProcess, files: Files) -> Iterator[gossip_pb2_grpc.GossipStub]:
    roots = grpc.ssl_channel_credentials(files.root)
    with grpc.secure_channel(secure.target, roots) as channel:
        yield gossip_pb2_grpc.GossipStub(channel)


Connect = Callable[..., KurrentDBClient]


def test_it_prints_its_connection_string(secure: ServerProcess) -> None:
    assert secure.line == f"kdb://admin:changeit@{secure.target}?Tls=true\n"


def test_what_is_written_is_read_and_followed(connect: Connect, name: str) -> None:
    client = connect()
    client.create_subscription_to_stream("g", name)
    big = [event(data=bytes(3_000_000)) for _ in range(4)]
    with client.subscribe_to_all(from_end=True) as slow:
        client.append_to_stream(name, current_version=StreamState.NO_STREAM, events=event())
        client.append_to_stream(name, current_version=0, events=big)
        assert [len(e.data) for e in client.get_stream(name)[1:]] == [3_000_000] * 4
        assert [e.stream_position for e in take(slow, 5)] == [0, 1, 2, 3, 4]
    with client.read_subscription_to_stream("g", name) as subscription:
        for got in take(subscription, 5):
            subscription.ack(got)
    assert client.get_commit_position() == client.append_to_stream(
        name, current_version=0, events=big
    )


async def test_the_async_client_too(secure: ServerProcess, files: Files, name: str) -> None:
    client = AsyncKurrentDBClient(secure.uri, root_certificates=files.root)
    await client.connect()
    subscription = await client.subscribe_to_all(from_end=True)
    writes = [
        client.append_to_stream(f"{name}-{number}", current_version=ANY, events=events(2))
        for number in range(20)
    ]
    await asyncio.gather(*writes)
    got = {(await anext(subscription)).stream_name for _ in range(40)}
    assert len(got) == 20
    await subscription.stop()
    await client.close()


def test_the_root_may_be_the_certificate_that_the_server_shows(
    secure: ServerProcess, name: str
) -> None:
    host, port = secure.target.split(":")
    shown = ssl.get_server_certificate((host, int(port)))
    with KurrentDBClient(secure.uri, root_certificates=shown) as client:
        client.append_to_stream(name, current_version=ANY, events=event())


def test_gossip_names_the_port_that_was_dialled(secure: ServerProcess, connect: Connect) -> None:
    (member,) = connect().read_gossip()
    assert f"{member.address}:{member.port}" == secure.target
    twice = secure.uri.replace(secure.target, f"{secure.target},{secure.target}")
    connect(twice).get_commit_position()
    with pytest.raises(FollowerNotFoundError):
        connect(twice + "&NodePreference=follower")


def test_a_wrong_password_is_refused(secure: ServerProcess, connect: Connect, name: str) -> None:
    client = connect(secure.uri.replace("changeit", "changed"))
    for call in (
        lambda: client.append_to_stream(name, current_version=ANY, events=event()),
        lambda: client.append_to_stream(name, current_version=ANY, events=events(2)),
        lambda: client.get_stream(name),
        lambda: client.list_subscriptions(),
        lambda: client.read_gossip(),
    ):
        with pytest.raises(UnauthenticatedError):
            call()
    right = client.construct_call_credentials("admin", "changeit")
    client.append_to_stream(name, current_version=ANY, events=event(), credentials=right)


@pytest.mark.parametrize(
    "sent", ["Basic", "Basic ", "Basic ???", "Basic YWRtaW4=", "Bearer YWRtaW46Y2hhbmdlaXQ=", ""]
)
def test_malformed_credentials_are_refused(gossip: gossip_pb2_grpc.GossipStub, sent: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        gossip.Read(shared_pb2.Empty(), metadata=[("authorization", sent)])
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_missing_credentials_are_accepted(gossip: gossip_pb2_grpc.GossipStub) -> None:
    assert len(gossip.Read(shared_pb2.Empty()).members) == 1
    right = b64encode(b"admin:changeit").decode()
    for scheme in ("Basic", "basic"):
        gossip.Read(shared_pb2.Empty(), metadata=[("authorization", f"{scheme} {right}")])


def test_without_tls_credentials_are_ignored(channel: grpc.Channel) -> None:
    stub = gossip_pb2_grpc.GossipStub(channel)
    stub.Read(shared_pb2.Empty(), metadata=[("authorization", "Basic nonsense")])


def test_peers_that_fail_to_shake_hands_harm_nobody(
    secure: ServerProcess, connect: Connect, name: str
) -> None:
    host, port = secure.target.split(":")
    for greeting in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(greeting)
    for uri, error in (
        (f"kdb://{secure.target}?Tls=false", ServiceUnavailableError),
        (secure.uri, SSLError),  # without the root certificate
    ):
        with KurrentDBClient(uri) as stranger, pytest.raises(error):
            stranger.get_stream(name)
    connect().append_to_stream(name, current_version=ANY, events=event())


def test_it_speaks_http2_by_name(secure: ServerProcess, files: Files) -> None:
    context = ssl.create_default_context(cadata=files.root.decode())
    context.set_alpn_protocols(["http/1.1", "h2"])
    host, port = secure.target.split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        assert peer.selected_alpn_protocol() == "h2"


def test_a_stop_ends_calls_in_progress(
    start: Callable[..., ServerProcess], files: Files, name: str
) -> None:
    server = start(*files.flags)
    with KurrentDBClient(server.uri, root_certificates=files.root) as client:
        client.append_to_stream(name, current_version=ANY, events=event())
        subscription = client.subscribe_to_stream(name)
        next(subscription)
        assert server.stop() == (0, "")
        with pytest.raises(ServiceUnavailableError):
            next(subscription)
    again = start(*files.flags)
    with KurrentDBClient(again.uri, root_certificates=files.root) as client:
        assert len(client.get_stream(name)) == 1


def test_what_keeps_it_from_starting_is_one_line(
    start: Callable[..., ServerProcess], files: Files, tmp_path: Path
) -> None:
    server = start(*flags(files.certificate, files.other_key))
    code, errors = server.outcome()
    assert (code, server.line, errors.count("\n")) == (2, "", 1)
    assert "MISMATCH" in errors
    assert not (tmp_path / "store").exists()


def test_certificate_and_key_go_together(files: Files) -> None:
    assert tls_context(None, None) is None
    for alone in ((files.certificate, None), (None, files.private_key)):
        with pytest.raises(TlsError, match="go together"):
            tls_context(*alone)


def test_a_file_that_cannot_be_used_is_named(files: Files, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN")
    for bad in (tmp_path / "missing.pem", tmp_path, garbage):
        for pair in ((bad, files.private_key), (files.certificate, bad)):
            with pytest.raises(TlsError, match=re.escape(str(bad))):
                tls_context(*pair)
    # An encrypted key is refused; nobody is asked for its password on the terminal.
    with pytest.raises(TlsError, match=re.escape(str(files.locked_key))):
        tls_context(files.certificate, files.locked_key)


def test_the_command_line_passes_the_files_on(files: Files, tmp_path: Path) -> None:
    given = ["eventstore", "--data", str(tmp_path), *flags(files.certificate, files.other_key)]
    ended = subprocess.run([*rayfold(), *given], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "MISMATCH" in ended.stderr
