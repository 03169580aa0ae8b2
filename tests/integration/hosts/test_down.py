"""`rayfold down` where the one that would do it is gone: by its successor, or in its place."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.hosts import Host, HostProcess
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.host import PATIENCE


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


def test_down_ends_the_parts_of_a_controller_that_has_just_died(tmp_path: Path) -> None:
    with cluster(tmp_path, "one") as hosts:
        first = controller(hosts, "first")
        first.until_said("ready ")
        assert parts(hosts.head)
        first.kill()  # its parts go on
        assert "write#0@" in down(hosts)
        until_gone(hosts.head)


def test_down_finds_the_successor_of_a_controller_that_has_just_died(tmp_path: Path) -> None:
    with cluster(tmp_path, "one") as hosts:
        first = controller(hosts, "first")
        first.until_said("ready ")
        second = controller(hosts, "second")
        deadline = time.monotonic() + PATIENCE
        while "standing by" not in second.log():
            assert time.monotonic() < deadline, second.log()
            time.sleep(0.1)
        first.kill()
        down(hosts)
        until_gone(hosts.head)
        assert second.wait() == 0  # and makes none of them again
