"""Slow clients do not block others, even if a process may have only 128 files open."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

SLOW = [
    b"",
    b"GET /orders HT",
    b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{",
]


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Return the address of a gateway that may have 128 files open."""
    command = [sys.executable, "-m", "tests.contract.api.small_gateway", "128"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline())
        process.kill()


def test_slow_clients_prevent_no_other_from_connecting(address: tuple[str, int]) -> None:
    with ExitStack() as slow:
        for number in range(400):
            connection = slow.enter_context(socket.create_connection(address))
            connection.sendall(SLOW[number % len(SLOW)])
            if number % 10 == 0:
                assert _status(address, "GET", "/health/live") == 200
        for _ in range(20):
            assert _status(address, "POST", "/orders", b'{"customer_id": "ada"}') == 202


def _status(address: tuple[str, int], method: str, path: str, body: bytes | None = None) -> int:
    with closing(HTTPConnection(*address, timeout=10)) as connection:
        connection.request(method, path, body)
        return connection.getresponse().status
