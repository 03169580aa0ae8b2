"""The signals that ask a process of ours to end."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def ending_signals() -> Sequence[signal.Signals]:
    """Return the signals: also that of a terminal which is closed, unless it is ignored (`nohup`).

    By that one alone Python would end at once, and cut off what it was asked.
    """
    asked = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asked.append(signal.SIGHUP)
    return asked
