"""Runs another program such that it ends when its parent does; a script, run before that program.

`launch.py SIGNAL PARENT USER GROUP COMMAND…`: a user of -1 means the same user. It is a separate
program because in a process with threads, no Python code may run between fork and exec: a lock held
by another thread at that moment is never released there.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(number: int, parent: int, user: int, group: int, command: list[str]) -> None:
    """Leave the process group, change the user, request the signal, and become the command."""
    # A process group of its own, but in our session: Linux divides the cores among sessions first
    # (`autogroup` in sched(7)), and a session of its own would wait for all other processes in
    # ours.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if user >= 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    # This comes last: a change of user would cancel the signal.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent ended before
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    signal, parent_pid, user_id, group_id = (int(each) for each in sys.argv[1:5])
    main(signal, parent_pid, user_id, group_id, sys.argv[5:])
