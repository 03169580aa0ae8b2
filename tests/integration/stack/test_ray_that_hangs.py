"""A process of Ray that hangs is reported, and Ray is restarted although nothing ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, json, os, signal, sys
from functools import partial
from pathlib import Path

from deploy.stack import descendants, local_ray, ray_answers, ray_runtime
from deploy.stack.local_ray import LocalRay

which, data = sys.argv[1], Path(sys.argv[2])
descendants.mark_descendants(data)
start = partial(ray_runtime.start, None, "test", data=data)
start()
from ray._private import worker

ray_answers.PERIOD = ray_answers.TIMEOUT = 0.2
told = []

class Side:
    async def lose(self):
        told.append(local.status()["error"])

    async def heal(self):
        healed.set()

async def main():
    global local, healed
    healed = asyncio.Event()
    local = LocalRay(data, start)
    while local.answers.silent() or not local.answers._silent:  # both answer
        await local.answers.ask()
    asked = sorted(ray_runtime.addresses())
    was_ready = local.status()["ready"]
    [hanging] = worker._global_node.all_processes[which]
    os.kill(hanging.process.pid, signal.SIGSTOP)
    tasks = [asyncio.create_task(each) for each in (
        local.answers.watch(), local.watch([Side()], lambda: None))]
    while local.status()["ready"]:
        await asyncio.sleep(0.01)
    silent = local.status()["error"]
    async with asyncio.timeout(60):
        await healed.wait()
        while not local.status()["ready"]:
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    [after] = worker._global_node.all_processes[which]
    print(json.dumps({
        "asked": asked,
        "was ready": was_ready,
        "silent": silent,
        "told": told,
        "another": after.process.pid != hanging.process.pid,
        "left": hanging.process.poll() is None,
    }))

asyncio.run(main())
ray_runtime.stop()
"""


@pytest.mark.parametrize("which", ["raylet", "gcs_server"])
def test_a_process_of_ray_that_hangs_is_replaced(tmp_path: Path, which: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, which, str(tmp_path)],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert json.loads(ran.stdout) == {
        "asked": ["gcs_server", "raylet"],
        "was ready": True,
        "silent": f"{which} does not answer",
        "told": [f"{which} hangs; Ray is started again"],
        "another": True,
        "left": False,
    }
