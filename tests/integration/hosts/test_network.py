"""The hosts that tests of a cluster run on: what they promise to those tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.hosts import Host, HostProcess, Network

SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 99))
print("listening", flush=True)
clients = []
while True:
    clients.append(server.accept()[0])
    clients[-1].send(b"welcome")
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


@pytest.fixture
def here(network: Network) -> Host:
    return network.host("here")


@pytest.fixture
def there(network: Network) -> Host:
    return network.host("there")


def serve(host: Host) -> HostProcess:
    process = host.start("server", sys.executable, "-c", SERVER, host.address)
    process.until_said("listening")
    return process


def connect(here: Host, there: Host, timeout: float = 60) -> socket.socket:
    with here.inside():
        connection = socket.create_connection((there.address, 99), timeout=timeout)
    assert connection.recv(100) == b"welcome"
    return connection


def test_hosts_have_names_addresses_and_processes_of_their_own(here: Host, there: Host) -> None:
    server = serve(there)
    name = there.run("name", sys.executable, "-c", "import socket; print(socket.gethostname())")
    assert name == "there\n"
    assert [each.pid for each in there.processes(there.address)] == [server.process.pid]
    assert here.processes(there.address) == []
    with connect(here, there) as connection:
        assert connection.getsockname()[0] == here.address
    ours = [each.address for card in psutil.net_if_addrs().values() for each in card]
    assert not {here.address, there.address} & set(ours)


def test_a_killed_host_closes_its_connections(here: Host, there: Host) -> None:
    serve(there)
    with connect(here, there) as connection:
        there.kill()
        assert connection.recv(100) == b""


def test_a_host_without_power_goes_silent_and_boots_with_the_same_address(
    here: Host, there: Host
) -> None:
    serve(there)
    with connect(here, there) as connection:
        there.power_off()
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        there.boot()
        serve(there)
        connect(here, there).close()
        connection.settimeout(60)
        connection.sendall(b"?")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_a_cut_link_loses_nothing_that_tcp_retransmits(here: Host, there: Host) -> None:
    serve(there)
    with connect(here, there) as connection:
        there.cut()
        with pytest.raises(TimeoutError):
            connect(here, there, timeout=0.5)
        there.join()
        connect(here, there).close()
        connection.sendall(b"still there")


def test_a_killed_test_run_leaves_nothing(tmp_path: Path) -> None:
    run = f"""
import sys, time
from pathlib import Path
from tests.hosts import Network
host = Network(Path({str(tmp_path)!r})).host("orphan")
print(host.start("sleep", "sleep", "1000").process.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        inside = psutil.Process(int(process.stdout.readline()))
        os.kill(process.pid, signal.SIGKILL)
    assert psutil.wait_procs([inside], timeout=30)[1] == []
