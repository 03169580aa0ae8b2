"""Where a gateway may listen."""

from __future__ import annotations

import errno
import socket

import pytest

from deploy.errors import StartError
from deploy.stack.listening import bound, local_url, url
from tests.ports import free_port


@pytest.fixture
def port() -> int:
    """Return one that is free."""
    return free_port()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8"])
def test_an_address_that_others_can_reach_requires_tokens(host: str, port: int) -> None:
    with pytest.raises(StartError, match="RAYFOLD_TOKENS"):
        bound(host, port, open_to_all=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_requires_no_tokens(host: str, port: int) -> None:
    bound(host, port, open_to_all=True).close()


def test_with_tokens_it_may_listen_anywhere(port: int) -> None:
    bound("0.0.0.0", port, open_to_all=False).close()


def test_an_address_that_cannot_be_bound_is_one_line(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StartError, match="taken"):
        bound("127.0.0.1", port, open_to_all=True)
    with pytest.raises(StartError, match="cannot be bound"):
        bound("8.8.8.8", port, open_to_all=False)
    with pytest.raises(StartError, match="is not an address"):
        bound("x" * 70, port, open_to_all=False)


def test_a_kernel_without_such_addresses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", none)
    with pytest.raises(StartError, match=r"::1 cannot be listened on here: Address family"):
        bound("::1", port, open_to_all=True)


def test_the_port_is_reserved_while_the_parts_start(port: int) -> None:
    with (
        bound("127.0.0.1", port, open_to_all=True),
        socket.socket() as other,
        pytest.raises(OSError, match="in use"),
    ):
        other.bind(("127.0.0.1", port))


def test_several_gateways_share_a_port(port: int) -> None:
    first = bound("127.0.0.1", port, open_to_all=True, shared=True)
    with first, bound("127.0.0.1", port, open_to_all=True, shared=True) as second:
        first.listen()
        second.listen()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StartError, match="taken"):
        bound("127.0.0.1", port, open_to_all=True, shared=True)


def test_a_name_with_ipv4_and_ipv6_addresses_uses_ipv4(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with bound("localhost", port, open_to_all=True) as listening:
        assert listening.getsockname() == ("127.0.0.1", port)


def test_a_gateway_that_listens_everywhere_is_reachable_on_this_machine() -> None:
    assert local_url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert local_url("::", 8000) == "http://[::1]:8000"
    assert local_url("10.0.0.7", 8000) == url("10.0.0.7", 8000) == "http://10.0.0.7:8000"
