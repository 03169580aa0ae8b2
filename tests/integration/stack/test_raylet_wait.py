"""A local start of Ray whose raylet dies or hangs is tried again; one waits for no worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, time

from deploy.stack import ray_runtime

ray_runtime._stay_on_loopback()
from ray._private import services

true_raylet, tried = services.RAYLET_EXECUTABLE, []
start_raylet = services.start_raylet

def first_fails(*arguments, **options):
    services.RAYLET_EXECUTABLE = true_raylet if tried else sys.argv[1]
    started = start_raylet(*arguments, **options)
    tried.append(started.process)
    return started

services.start_raylet = first_fails
ray_runtime.TIMEOUTS = (float(sys.argv[2]), 60.0, 60.0)
since = time.monotonic()
ray_runtime.start(None, "test")
seconds = time.monotonic() - since
found = {"attempts": len(tried), "left": tried[0].poll() is None, "seconds": seconds}
ray_runtime.stop()
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("instead", "timeout"), [("exit 1", 60.0), ("exec sleep 600", 3.0)], ids=["dies", "hangs"]
)
def test_a_start_without_a_raylet_is_aborted_and_tried_again(
    tmp_path: Path, instead: str, timeout: float
) -> None:
    raylet = tmp_path / "raylet"
    raylet.write_text(f"#!/bin/sh\n{instead}\n")
    raylet.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(raylet), str(timeout)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    print(f"started in {found['seconds']:.1f} s")
    assert found["attempts"] == 2
    assert not found["left"], "a raylet of the previous attempt still runs"


WORKERS = """
import json

import psutil

from deploy.stack import ray_runtime

def is_worker(process):
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return any(each.startswith("ray::") or each.endswith("default_worker.py") for each in words)

ray_runtime.start(None, "test")
found = [each.cmdline() for each in psutil.Process().children(recursive=True) if is_worker(each)]
import ray
numbered = ray.get(ray.remote(lambda: 7).remote(), timeout=120)
ray_runtime.stop()
print(json.dumps({"workers": found, "numbered": numbered}))
"""


def test_a_start_waits_for_no_worker_because_it_may_die_first() -> None:
    """Ray's own wait would never end then, and hold the GIL, so that no signal ends it."""
    ran = subprocess.run(
        [sys.executable, "-c", WORKERS], capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {"workers": [], "numbered": 7}


ORPHAN = """
import os, sys, time

if os.fork():
    os._exit(0)
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.01)
from deploy.stack import ray_runtime

ray_runtime.start(None, "test")
from ray._private import worker

for each in worker._global_node.all_processes["raylet"]:
    each.process.kill()
    each.process.wait()
ray_runtime.stop()
print("lives on", flush=True)
"""


def test_a_service_outlives_its_raylet() -> None:
    """The parent of a service or in a container is init: Ray takes those for orphaned workers."""
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" $$', "sh", sys.executable, "-c", ORPHAN],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.stdout.splitlines()[-1:] == ["lives on"], ran.stderr
