"""A placeholder for a raylet's runtime-environment agent until one is needed.

`python -I -S agent_when_asked.py AGENT OPTION…`: Ray's own agent, AGENT, takes 55 MB, and actors of
a local stack only have runtime environments if a release brings one. This process listens in its
place and becomes the agent with the first connection. It imports nothing of ours or of Ray's.
"""

from __future__ import annotations

import os
import select
import socket
import sys

SERVICE = "runtime_env_agent_port"
"""The file in the session's folder in which a raylet expects the agent's port."""

LOOK = 1.0
"""Seconds between two checks whether the raylet lives."""


def main(agent: str, options: list[str]) -> None:
    """Write the port; become the agent when a client connects; end with the raylet."""
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
