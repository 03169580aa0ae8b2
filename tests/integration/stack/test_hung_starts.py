"""An actor's process that hangs as it starts delays only its own actor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ANSWERS_WITHIN = 40.0
"""Seconds. A raylet waits 60 for a process that has begun, and is at nothing else meanwhile where
as many hang as it starts at a time."""

HANGS = """
import os, runpy, time

run_path = runpy.run_path

def hangs_while_told(*arguments, **options):
    for each in os.scandir(os.environ["HANGS"]):
        try:
            os.rmdir(each.path)
        except FileNotFoundError:  # another one was told
            continue
        time.sleep(600)
    return run_path(*arguments, **options)

runpy.run_path = hangs_while_told
"""

SCRIPT = """
import os, sys

from deploy.raylet import fork_server
from deploy.stack import ray_runtime

server = fork_server.ForkServer((fork_server.PRELOADED, "hangs"))
ray_runtime._fork_server = lambda domain: server
ray_runtime.start(None, "test")
import ray

class Numbered:
    def number(self):
        return 7

actors = [ray.remote(num_cpus=0)(Numbered).remote() for _ in range(os.cpu_count() + 1)]
said = [each.number.remote() for each in actors]
print("answered", ray.get(ray.wait(said, timeout=float(sys.argv[1]))[0]), flush=True)
ray_runtime.stop()
"""


def test_other_actors_start_while_as_many_hang_as_there_are_cores(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    for number in range(os.cpu_count() or 1):
        (hanging / str(number)).mkdir(parents=True)
    (tmp_path / "hangs.py").write_text(HANGS)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ANSWERS_WITHIN)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "HANGS": str(hanging)},
    )
    assert ran.returncode == 0, ran.stderr
    assert not [*hanging.iterdir()], "a process did not hang as it started"
    assert ran.stdout.splitlines()[-1] == "answered [7]", ran.stderr
