"""Controllers that die or hang: who owns the stack then, and how `rayfold down` ends it.

One host for all tests. Each controller has a name of its own there, as its log has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.hosts import Host, HostProcess
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.host import PATIENCE


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("hosts"), "one") as hosts:
        yield hosts


def controller(hosts: Cluster, name: str) -> HostProcess:
    """Start one on the first host; it is not started again when it ends."""
    cli = (sys.executable, "-c", "from deploy.cli import main; main()")
    return hosts.head.start(name, *cli, "controller", *hosts.joining)


def parts(host: Host) -> list[int]:
    """Return the processes of the actors that run there."""
    return [process.pid for process in host.processes("Actor")]


def down(hosts: Cluster) -> str:
    """Take the stack down; return what it says."""
    cli = (sys.executable, "-c", "from deploy.cli import main; main()")
    stack = ("--ray-address", hosts.ray, "--postgres", hosts.postgres)
    return hosts.head.run("down", *cli, "down", *stack)


def until_gone(host: Host) -> None:
    """Wait until no part runs."""
    deadline = time.monotonic() + PATIENCE
    while left := parts(host):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def until_told(process: HostProcess, text: str) -> None:
    """Wait until it has this in its log."""
    deadline = time.monotonic() + PATIENCE
    while text not in process.log():
        assert time.monotonic() < deadline, process.log()
        time.sleep(0.1)


def test_down_ends_the_parts_of_a_controller_that_has_just_died(hosts: Cluster) -> None:
    alone = controller(hosts, "alone")
    alone.until_said("ready ")
    assert parts(hosts.head)
    alone.kill()  # its parts go on
    assert "write#0@" in down(hosts)
    until_gone(hosts.head)


def test_down_finds_the_successor_of_a_controller_that_has_just_died(hosts: Cluster) -> None:
    first = controller(hosts, "first")
    first.until_said("ready ")
    second = controller(hosts, "second")
    until_told(second, "standing by")
    first.kill()
    down(hosts)
    until_gone(hosts.head)
    assert second.wait() == 0  # and makes none of them again


def test_an_owner_that_was_frozen_stands_by_and_does_not_end_the_parts(hosts: Cluster) -> None:
    """Only one owns the stack at a time, also when an owner is silent and comes back."""
    frozen = controller(hosts, "frozen")
    frozen.until_said("ready ")
    heir = controller(hosts, "heir")
    until_told(heir, "standing by")
    before = parts(hosts.head)
    frozen.freeze()
    heir.until_said("ready ")
    frozen.thaw()
    until_told(frozen, "another owner has taken over the stack")
    until_told(frozen, "standing by")
    assert set(before) == set(parts(hosts.head))  # adopted by the heir, ended by neither
    assert heir.stop() == 0
    deadline = time.monotonic() + PATIENCE
    while frozen.said().count("ready ") < 2:
        assert frozen.runs
        assert time.monotonic() < deadline, frozen.log()
        time.sleep(0.1)
    assert set(before) == set(parts(hosts.head))
