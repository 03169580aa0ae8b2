"""Run by Ray before a worker's script: replaces the process that Ray starts by a fork.

`python worker_start.py SOCKET [OPTION…] SCRIPT ARGUMENT…`: if the fork server does not answer, or
the worker has an environment of its own, Python runs the script as usual. This imports nothing of
ours, to keep each start fast.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys

END = b"\0"
"""Ends a request; JSON text never contains it."""

NO_ENVIRONMENT = "--runtime-env-hash=0"
"""How Ray marks a worker without a runtime environment."""

TIMEOUT = 8.0
"""Seconds within which the server, which may still be importing, must fork."""


def main(path: str, arguments: list[str]) -> None:
    """End once a fork has begun; otherwise become Python."""
    if NO_ENVIRONMENT in arguments and _forked(path, arguments):
        return
    os.execv(sys.executable, [sys.executable, *arguments])


def _forked(path: str, arguments: list[str]) -> bool:
    try:
        with open("/proc/self/oom_score_adj") as file:
            oom_score_adj = file.read()
        # Not by its name: the folder may have been removed.
        folder = os.open(".", os.O_PATH)
        script = next(each for each in arguments if not each.startswith("-"))
        told = {
            "arguments": arguments[arguments.index(script) :],
            "environment": dict(os.environ),
            "oom_score_adj": oom_score_adj,
            "limits": {each: resource.getrlimit(each) for each in _limits()},
        }
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            socket.send_fds(connection, [b" "], [0, 1, 2, folder])
            connection.sendall(json.dumps(told).encode() + END)
            if not connection.recv(16):
                return False
            connection.send(b"!")  # so a fork that comes too late knows that it is not needed
            return True
    except (OSError, StopIteration):
        return False


def _limits() -> list[int]:
    return [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
