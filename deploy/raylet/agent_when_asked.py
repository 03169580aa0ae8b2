"""What a raylet has for its agent of runtime environments until one is asked for.

`python -I -S agent_when_asked.py AGENT OPTION…`: Ray's own, AGENT, takes 55 MB, and no actor of a
stack of our own has such an environment unless a release brings one. This listens in its place and
becomes it with the first connection. It imports nothing of ours or Ray's.
"""

from __future__ import annotations

import os
import select
import socket
import sys

SERVICE = "runtime_env_agent_port"
"""What a raylet waits to be told the port of, in a file of the session's folder."""

LOOK = 1.0
"""Seconds between two looks for the raylet."""


def main(agent: str, options: list[str]) -> None:
    """Tell the port; become the agent there once somebody connects; end with the raylet."""
    told = dict(each.split("=", 1) for each in options if "=" in each)
    raylet = int(os.environ["RAY_RAYLET_PID"])
    asked_for = int(told["--runtime-env-agent-port"])
    with socket.create_server((told["--node-ip-address"], asked_for)) as listener:
        port = listener.getsockname()[1]
        file = f"{told['--session-dir']}/{SERVICE}_{told['--node-id']}"
        with open(file + ".new", "w") as new:
            new.write(str(port))
        os.rename(file + ".new", file)
        while not select.select([listener], [], [], LOOK)[0]:
            if os.getppid() != raylet:
                return
    options = [*options, f"--runtime-env-agent-port={port}"]
    os.execv(sys.executable, [sys.executable, "-u", agent, *options])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
