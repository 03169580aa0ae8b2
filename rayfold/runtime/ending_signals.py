"""The signals that tell a process to stop in order."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def ending_signals() -> Sequence[signal.Signals]:
    """Return the signals, including that of a closed terminal unless it is ignored (`nohup`).

    Left to itself, Python ends at once on that one, without answering pending requests.
    """
    asked = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asked.append(signal.SIGHUP)
    return asked
