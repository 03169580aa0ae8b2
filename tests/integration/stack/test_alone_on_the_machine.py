"""A stack on a laptop cannot be reached from outside or by other users."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest

from deploy.stack import ray_folder
from deploy.stack.descendants import descendants
from deploy.stack.ray_runtime import TOKEN_FILE
from tests.stack import Stack


def own_processes(stack: Stack) -> list[psutil.Process]:
    return [psutil.Process(stack.pid), *descendants(stack.data.resolve())]


def listening(stack: Stack) -> Iterator[tuple[str, str, int]]:
    """Every TCP and UDP socket of the stack's that waits for somebody."""
    for process in own_processes(stack):
        with suppress(psutil.NoSuchProcess):
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN or (
                    each.type == socket.SOCK_DGRAM and not each.raddr
                ):
                    yield process.name(), each.laddr.ip, each.laddr.port


def other_addresses() -> list[str]:
    """This machine's addresses that others can reach."""
    return [
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
        and not address.address.startswith("127.")
        and address.address != "::1"
    ]


def test_every_socket_is_bound_to_loopback(stack: Stack) -> None:
    found = list(listening(stack))
    assert {name for name, _, _ in found} >= {"gcs_server", "raylet"}
    assert [each for each in found if each[1].removeprefix("::ffff:") != "127.0.0.1"] == []


def test_nothing_answers_at_another_address(stack: Stack) -> None:
    # 127.0.0.2 is an address of the machine too where there is no other: it reaches whatever is
    # bound to all addresses, and nothing that is bound to 127.0.0.1.
    for address in [*other_addresses(), "127.0.0.2"]:
        if address.startswith("fe80"):
            continue  # needs a scope
        for name, _, port in listening(stack):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as probe:
                probe.settimeout(2)
                assert probe.connect_ex((address, port)) != 0, (name, address, port)


def test_ray_requires_a_token_that_only_its_owner_can_read(stack: Stack) -> None:
    file = stack.data / TOKEN_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text()) == 64
    [gcs] = [p for p in own_processes(stack) if p.name() == "gcs_server"]
    [port] = {each.laddr.port for each in gcs.net_connections("inet") if each.status == "LISTEN"}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            ask(b"", timeout=10)
        bearer = ("authorization", f"Bearer {file.read_text()}")
        assert ask(b"", timeout=10, metadata=[bearer])


def test_only_its_owner_can_read_the_data_folder(stack: Stack) -> None:
    # Root's Postgres runs as another user, who may pass through and look at nothing.
    assert stat.S_IMODE(stack.data.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    for path in stack.data.rglob("*"):
        if ray_folder.INSIDE in path.relative_to(stack.data).parts:
            continue  # Ray opens its folders to all, in one that lets nobody in
        with suppress(FileNotFoundError):  # Postgres' files come and go
            assert open_to_others(path) == 0, path


def test_the_folder_of_rays_sockets_is_closed_to_other_users(stack: Stack) -> None:
    [raylet] = [p for p in own_processes(stack) if p.name() == "raylet"]
    listening = {Path(each.laddr) for each in raylet.net_connections("unix") if each.laddr}
    folder = (stack.data / ray_folder.NAME).resolve()
    assert {each.name for each in listening} >= {"raylet", "plasma_store"}
    assert all(each.is_relative_to(folder) for each in listening)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def open_to_others(path: Path) -> int:
    mode = path.lstat()
    if stat.S_ISLNK(mode.st_mode) or stat.S_ISSOCK(mode.st_mode):
        return stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) & 0o077
    return stat.S_IMODE(mode.st_mode) & 0o077


@pytest.mark.parametrize("name", ["events.sqlite", "events.sqlite-wal"])
def test_a_folder_that_was_open_to_others_is_closed(stack: Stack, name: str) -> None:
    assert stat.S_IMODE((stack.data / "eventstore" / name).stat().st_mode) == 0o600
