"""A placeholder for a raylet's dashboard agent, which it requires, in a Ray without a dashboard.

Ray's own takes 60 MB and a second of CPU time to report that it offers nothing. This one reports
that and ends with the raylet: `python -I -S no_agent.py --session-dir=FOLDER …`. It imports nothing
of ours or of Ray's.
"""

from __future__ import annotations

import os
import sys
import time

SERVICES = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
"""The files in the session's folder in which a raylet expects the agent's ports."""

NOT_OFFERED = "-1"

LOOK = 1.0
"""Seconds between two checks whether the raylet lives."""


def main(arguments: list[str]) -> None:
    """Report that there are no ports; wait until the raylet has ended."""
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
