"""Two controllers, of which the owner falls silent and comes back: one owns the stack at a time."""

from __future__ import annotations

import time
from pathlib import Path

from tests.hosts import HostProcess
from tests.hosts.cluster import cluster
from tests.hosts.host import PATIENCE
from tests.integration.hosts.test_down import controller, parts


def until_told(process: HostProcess, text: str) -> None:
    """Wait until it has this in its log."""
    deadline = time.monotonic() + PATIENCE
    while text not in process.log():
        assert time.monotonic() < deadline, process.log()
        time.sleep(0.1)


def test_an_owner_that_was_frozen_stands_by_and_leaves_the_parts_alone(tmp_path: Path) -> None:
    with cluster(tmp_path, "one") as hosts:
        first = controller(hosts, "first")
        first.until_said("ready ")
        second = controller(hosts, "second")
        until_told(second, "standing by")
        before = parts(hosts.head)
        first.freeze()
        second.until_said("ready ")
        first.thaw()
        until_told(first, "another owner has taken over the stack")
        until_told(first, "standing by")
        assert set(before) == set(parts(hosts.head))  # adopted by the second, ended by neither
        assert second.stop() == 0
        deadline = time.monotonic() + PATIENCE
        while first.said().count("ready ") < 2:
            assert first.runs
            assert time.monotonic() < deadline, first.log()
            time.sleep(0.1)
        assert set(before) == set(parts(hosts.head))
