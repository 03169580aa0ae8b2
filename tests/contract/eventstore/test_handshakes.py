"""A node that accepts TLS and then does not answer: that is not taken for a refusal."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from kurrentdbclient.connection_spec import ConnectionSpec

from eventstore.errors import StoreRefused, StoreUnavailable
from eventstore.kurrentdb import handshake

Serve = Callable[[socket.socket, ssl.SSLContext], None]


def close_at_once(plain: socket.socket, context: ssl.SSLContext) -> None:
    plain.close()


def close_after_the_handshake(plain: socket.socket, context: ssl.SSLContext) -> None:
    context.wrap_socket(plain, server_side=True).close()


def end_the_stream_at_once(plain: socket.socket, context: ssl.SSLContext) -> None:
    plain.shutdown(socket.SHUT_WR)  # and no reset, as of one that has not read what came
    while plain.recv(4096):
        pass


def keep_silent_at_once(plain: socket.socket, context: ssl.SSLContext) -> None:
    while plain.recv(4096):
        pass


def keep_silent_after_the_handshake(plain: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(plain, server_side=True) as secure:
        secure.recv(1)


def speak(plain: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(plain, server_side=True) as secure:
        secure.sendall(b"\0\0\0\4\0\0\0\0\0")
        secure.recv(1)


def ask_for_a_certificate(plain: socket.socket, context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.wrap_socket(plain, server_side=True).close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def node(authority: trustme.CA) -> Iterator[Callable[[Serve], str]]:
    """Start nodes that treat whoever connects in one way; return where each listens."""
    listening: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(serve: Serve) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def run() -> None:
            with suppress(OSError):  # our side goes as it likes
                plain, _ = listener.accept()
                with plain:
                    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                    authority.issue_cert("127.0.0.1").configure_cert(context)
                    authority.configure_trust(context)
                    serve(plain, context)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listening:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(60)


def complaint(tmp_path: Path, *targets: str) -> StoreUnavailable | None:
    uri = f"kdb://admin:changeit@{','.join(targets)}?Tls=true&TlsCaFile={tmp_path}/ca.pem"
    return handshake.complaint(ConnectionSpec(uri))


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (close_at_once, "closes the connection during the TLS handshake"),
        (end_the_stream_at_once, "closes the connection during the TLS handshake"),
        (close_after_the_handshake, "closes the connection after the TLS handshake"),
        (keep_silent_at_once, "does not answer for 0.5 s during the TLS handshake"),
        (keep_silent_after_the_handshake, "does not answer for 0.5 s after the TLS handshake"),
    ],
)
def test_a_node_that_does_not_answer_the_handshake_may_be_tried_again(
    node: Callable[[Serve], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    told: str,
) -> None:
    monkeypatch.setattr(handshake, "TIMEOUT", 0.5)
    target = node(serve)
    found = complaint(tmp_path, target)
    assert str(found).startswith(f"{target} {told}")
    assert not isinstance(found, StoreRefused)
    assert ("UserCertFile" in str(found)) is (serve is close_after_the_handshake)


def test_a_node_that_asks_for_a_certificate_is_distinguished_from_a_silent_one(
    node: Callable[[Serve], str], tmp_path: Path
) -> None:
    found = complaint(tmp_path, node(close_after_the_handshake), node(ask_for_a_certificate))
    assert isinstance(found, StoreRefused)
    assert "it wants another UserCertFile and UserKeyFile" in str(found)


def test_a_node_that_answers_the_handshake_gives_no_complaint(
    node: Callable[[Serve], str], tmp_path: Path
) -> None:
    assert complaint(tmp_path, node(close_at_once), node(speak)) is None
