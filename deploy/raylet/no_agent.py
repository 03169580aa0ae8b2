"""What a raylet has for its dashboard agent, which it insists on, in a Ray without a dashboard.

Ray's own takes 60 MB and a second of CPU to say that it offers nothing. This says so, and ends with
the raylet: `python -I -S no_agent.py --session-dir=FOLDER …`. It imports nothing of ours or Ray's.
"""

from __future__ import annotations

import os
import sys
import time

SERVICES = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
"""What a raylet waits to be told the ports of, each in a file of the session's folder."""

NOT_OFFERED = "-1"

LOOK = 1.0
"""Seconds between two looks for the raylet."""


def main(arguments: list[str]) -> None:
    """Tell that there are no ports; wait until the raylet has ended."""
    option = "--session-dir="
    folder = next(each for each in arguments if each.startswith(option)).removeprefix(option)
    for service in SERVICES:
        file = f"{folder}/{service}_{os.environ['RAY_NODE_ID']}"
        with open(file + ".new", "w") as new:
            new.write(NOT_OFFERED)
        os.rename(file + ".new", file)
    raylet = int(os.environ["RAY_RAYLET_PID"])
    while os.getppid() == raylet:
        time.sleep(LOOK)


if __name__ == "__main__":
    main(sys.argv[1:])
