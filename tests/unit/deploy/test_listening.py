"""Where a gateway may listen."""

from __future__ import annotations

import socket

import pytest

from deploy.errors import StartError
from deploy.stack.listening import check, local_url, url


@pytest.fixture
def port() -> int:
    """Return one that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number: int = taken.getsockname()[1]
        return number


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8"])
def test_where_others_reach_it_somebody_must_need_a_token(host: str, port: int) -> None:
    with pytest.raises(StartError, match="RAYFOLD_TOKENS"):
        check(host, port, open_to_all=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_on_loopback_nobody_needs_one(host: str, port: int) -> None:
    check(host, port, open_to_all=True)


def test_with_tokens_it_may_listen_anywhere(port: int) -> None:
    check("0.0.0.0", port, open_to_all=False)


def test_an_address_that_cannot_be_bound_is_one_line(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StartError, match="taken"):
        check("127.0.0.1", port, open_to_all=True)
    with pytest.raises(StartError, match="cannot be bound"):
        check("8.8.8.8", port, open_to_all=False)
    with pytest.raises(StartError, match="no address"):
        check("x" * 70, port, open_to_all=False)


def test_this_machine_reaches_a_gateway_that_listens_everywhere() -> None:
    assert local_url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert local_url("::", 8000) == "http://[::1]:8000"
    assert local_url("10.0.0.7", 8000) == url("10.0.0.7", 8000) == "http://10.0.0.7:8000"
