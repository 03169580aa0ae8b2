"""What the command line prints if the server at a URL is not a gateway: one line each."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.cli import asking
from deploy.cli.gateway_client import ask
from deploy.errors import StartError
from deploy.stack.folder import gateway_of


@pytest.fixture
def says(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of what answers once, with the bytes it is parametrized by."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(request.param)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        answered = pool.submit(answer)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        answered.result()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@pytest.mark.parametrize(
    "says",
    [b"SSH-2.0-OpenSSH\r\n", HEAD % (6, b"<html>"), HEAD % (60, b"{"), HEAD % (3, b"[1]")],
    ids=["protocol", "page", "cut off", "list"],
    indirect=True,
)
def test_a_server_that_is_not_a_gateway_is_reported(says: str) -> None:
    with pytest.raises(StartError, match="no gateway can be asked at http"):
        ask(says, "/operators/status")


UNKNOWN = b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 21\r\n\r\n{"detail": "a token"}\n'


@pytest.mark.parametrize("says", [UNKNOWN], indirect=True)
def test_an_unknown_token_is_refused_with_where_the_token_came_from(says: str) -> None:
    with pytest.raises(StartError, match=r"^a token: .*rayfold.toml.*RAYFOLD_TOKEN"):
        ask(says, "/operators/status")


AWAY = b"HTTP/1.1 302 Found\r\nLocation: http://id.example/sign-in\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("says", [AWAY], indirect=True)
def test_a_token_is_not_sent_to_another_server_by_a_redirect(says: str) -> None:
    with pytest.raises(StartError, match=r"\(302\) to http://id\.example/sign-in: give"):
        ask(says, "/operators/status", token="secret")


@pytest.mark.parametrize("says", [HEAD % (2, b"{}")], indirect=True)
def test_a_missing_field_of_an_answer_is_named(says: str) -> None:
    answer = ask(says, "/operators/status")
    with pytest.raises(StartError, match="'parts'"):
        answer["parts"]


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://[::1", None),
        ("http://127.0.0.1:a", None),
        ("http://127.0.0.1:1", "a\nb"),
        ("http://127.0.0.1:1", "☃"),
    ],
)
def test_a_value_that_cannot_be_sent_is_one_line(url: str, token: str | None) -> None:
    with pytest.raises(StartError):
        ask(url, "/operators/status", token=token)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "{}", '"http://here"'])
def test_a_data_folder_that_does_not_say_where_its_gateway_is_has_none(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "gateway.json").write_text(text)
    with pytest.raises(StartError, match="no gateway is running"):
        gateway_of(tmp_path)


def test_two_gateways_in_a_data_folder_are_never_mixed_up(tmp_path: Path) -> None:
    """Otherwise a deletion that was meant for one could be done at the other."""
    with pytest.raises(StartError, match="--data or --url"):
        asking.ask(tmp_path, "http://127.0.0.1:1", "/operators/status")


@pytest.mark.parametrize("says", [HEAD % (12, b'{"parts":[]}')], indirect=True)
def test_a_gateway_on_this_machine_is_not_connected_to_through_a_proxy(
    says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would know the environment before
    assert ask(says, "/operators/status")["parts"] == []


def test_a_gateway_that_does_not_answer_is_named_as_it_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(StartError, match=rf"^the gateway at {url} does not answer: \[Errno \d+\] "):
        ask(url, "/operators/status")


_TENANT = b'{"type": "/problems/tenant-needed", "detail": "name one by Rayfold-Tenant"}'
NO_TENANT = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(_TENANT), _TENANT)


@pytest.mark.parametrize("says", [NO_TENANT], indirect=True)
def test_if_a_tenant_is_needed_the_option_is_named(says: str) -> None:
    with pytest.raises(
        StartError, match=r"^the stack serves tenants: name the tenant with --tenant"
    ):
        ask(says, "/commands/1", method="DELETE")
