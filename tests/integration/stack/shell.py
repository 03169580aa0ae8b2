"""A shell for the commands of documents: what they call by name is what is tested."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.stack import rayfold

TIMEOUT = 180.0


class Shell:
    """Bash that ends at the first command that fails, in a folder of its own.

    `curl` fails on an answer of 400 and above. `rayfold`, `python` and `locust` are those of this
    interpreter, on the path and in `.venv/bin`; port 8000 is the stack's.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._address = url.removeprefix("http://")
        tools = folder / ".venv" / "bin"
        tools.mkdir(parents=True)
        for name, command in (
            ("rayfold", rayfold()),
            ("python", [sys.executable]),
            ("locust", [sys.executable, "-m", "locust"]),
            ("curl", ["/usr/bin/curl", "--fail-with-body", "--no-progress-meter"]),
        ):
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            script.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}:{ROOT}",
        }

    def run(self, commands: str) -> str:
        """Return what the commands print.

        Raises:
            AssertionError: one of them failed; it has what they said.
        """
        if self._address:
            for address in ("localhost:8000", "127.0.0.1:8000"):
                commands = commands.replace(address, self._address)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout
