"""A log line shows its fields."""

from __future__ import annotations

import logging

from rayfold.runtime.log_format import FieldFormatter


def test_fields_stand_behind_the_message() -> None:
    record = logging.makeLogRecord(
        {"name": "actors", "levelname": "ERROR", "msg": "a decision failed"}
        | {"stream": "order-1", "error": "no such key", "revision": 0}
    )
    line = FieldFormatter().format(record)
    assert line.endswith(
        "ERROR actors: a decision failed stream=order-1 error='no such key' revision=0"
    )
