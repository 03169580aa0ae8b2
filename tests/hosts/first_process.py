"""The first process of a host: nothing but the parent of those whose parent has ended.

Run as a script inside new namespaces: `first_process.py NAME FOLDER`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

MS_BIND = 4096


def main(name: str, folder: str) -> None:
    """Take the host's name and its folders; reap until killed."""
    socket.sethostname(name)
    os.makedirs("/tmp/ray", exist_ok=True)
    _mount(folder, "/tmp/ray", "", MS_BIND)
    _mount("shm", "/dev/shm", "tmpfs", 0)
    # Nobody is left a zombie: to have ended is to be gone.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"{target} cannot be mounted")


if __name__ == "__main__":
    main(*sys.argv[1:])
