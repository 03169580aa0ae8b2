"""Run a program again whenever it ends, as a host's init system does; run as a script.

`service.py COMMAND…`: SIGTERM ends the program in order, and then this with its exit code.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

PAUSE = 1.0
"""Seconds before it is started again."""


def main(command: list[str]) -> int:
    """Start it, and again, until told to stop."""
    running: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if running is not None:
            running.terminate()

    signal.signal(signal.SIGTERM, stop)
    while True:
        running = subprocess.Popen(command)
        code = running.wait()
        if stopping:
            return code
        sys.stderr.write(f"ended with {code} and is started again\n")
        sys.stderr.flush()
        time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
