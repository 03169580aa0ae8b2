"""A stack leaves no process behind, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from deploy.stack.descendants import descendants, end
from tests.integration.stack.orders import create
from tests.stack import Stack


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    """A process with the mark of a data folder, whose stack is gone."""
    mark = f"from pathlib import Path; mark_descendants(Path({str(tmp_path)!r}))"
    monkeypatch.delenv("_RAYFOLD_FOLDER", raising=False)
    code = (
        f"from deploy.stack.descendants import mark_descendants; {mark}; import subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_an_orphaned_process_of_a_stack_is_found_by_its_mark(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sleeper.wait(30) == 0
    [orphan] = descendants(tmp_path)
    assert descendants(tmp_path / "another") == []
    assert end([orphan]) == [orphan.pid]
    assert descendants(tmp_path) == []


def test_a_gateway_that_is_killed_leaves_nothing_and_the_next_up_has_everything(
    tmp_path: Path,
) -> None:
    stack = Stack(tmp_path / "data")
    stack.start()
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        order = create(http)
    data = stack.data.resolve()
    assert "postgres" in [each.name() for each in descendants(data)]
    os.kill(stack.pid, signal.SIGKILL)
    # At once: what the kernel has not ended yet is the next one's to end.
    stack.start()
    try:
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            assert http.get(f"/orders/{order}").status_code == 200
    finally:
        os.kill(stack.pid, signal.SIGKILL)
    # Nobody comes to end what is left: it is gone in seconds by itself.
    deadline = time.monotonic() + 60
    while left := descendants(data):
        assert time.monotonic() < deadline, [each.cmdline() for each in left]
        time.sleep(0.1)
