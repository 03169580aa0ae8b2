"""Become another program that ends when its parent does; run as a script, before that program.

`launch.py SIGNAL PARENT USER GROUP COMMAND…`: a user of -1 is the same one. It is a program of its
own, as nothing may run in Python between fork and exec in a process with threads: a lock that
another thread held at that moment is never freed there.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(number: int, parent: int, user: int, group: int, command: list[str]) -> None:
    """Leave the process group, change the user, ask for the signal, and become the command."""
    # A group of its own, in our session: Linux shares the cores out among sessions first
    # (`autogroup` in sched(7)), and one of its own would wait for whatever else is in ours.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if user >= 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    # Last: a change of user would forget the signal.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    signal, parent_pid, user_id, group_id = (int(each) for each in sys.argv[1:5])
    main(signal, parent_pid, user_id, group_id, sys.argv[5:])
