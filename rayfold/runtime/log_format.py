"""Log lines: a constant message, then its fields as `name=value`; or all of it as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from rayfold.foreign_text import on_one_line, shown

FORMAT = "RAYFOLD_LOG_FORMAT"
"""The environment variable that says `text` or `json`: processes inherit it."""

CURRENT_TRACE: ContextVar[str] = ContextVar("traceparent", default="")
"""The W3C trace context of the task's present work, if that is traced."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes that every record has; all others came from `extra`."""

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra`, in order."""
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _OWN and not name.startswith("_")  # Ray adds some
    }


_SET_IN = "\n  "


class FieldFormatter(logging.Formatter):
    """Appends what was given as `extra`, in order.

    Only our own records begin at the start of a line: a traceback is indented, because the text of
    an exception may have lines that look like a record.
    """

    def __init__(self) -> None:
        super().__init__(_LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback."""
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        return on_one_line(super().formatMessage(record)) + fields

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with invisible characters in foreign text escaped."""
        return shown(super().format(record)).replace("\n", _SET_IN)


def _plain(value: object) -> str:
    text = str(value)
    if " " in text or not text.isprintable():
        text = on_one_line(repr(value))
    return text


class JsonFormatter(logging.Formatter):
    """Writes one JSON object per line: its own fields, then those of `extra`, then the trace.

    `part` names the process's part of the stack. A field of `extra` with the name of one of our own
    fields is kept under `field_<name>`.
    """

    def __init__(self, part: str = "") -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if self._part:
            line["part"] = self._part
        fields = _fields(record)
        trace = str(fields.pop("traceparent", "") or CURRENT_TRACE.get())
        if len(pieces := trace.split("-")) == 4:
            line["trace_id"], line["span_id"] = pieces[1:3]
        for name, value in fields.items():
            line[f"field_{name}" if name in line else name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)


def log_to_stderr(part: str = "") -> None:
    """Send the process's log with its fields to stderr; further calls do nothing.

    `part` names the process in JSON. See `FORMAT`.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = os.environ.get(FORMAT, "").lower() == "json"
    handler.setFormatter(JsonFormatter(part) if as_json else FieldFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(as_json)  # else they would be lines that are not JSON
