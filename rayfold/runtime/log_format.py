"""Log lines: a constant message, then its fields as `name=value`."""

from __future__ import annotations

import logging
import sys

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else came in by `extra`."""

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class FieldFormatter(logging.Formatter):
    """Appends what was given as `extra`, in order."""

    def __init__(self) -> None:
        super().__init__(_LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback."""
        fields = "".join(
            f" {name}={value!r}" if " " in str(value) else f" {name}={value}"
            for name, value in vars(record).items()
            if name not in _OWN and not name.startswith("_")  # Ray adds some
        )
        return super().formatMessage(record) + fields


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Send the process's log to stderr, fields and all; once, however often it is called."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=level, handlers=[handler])
