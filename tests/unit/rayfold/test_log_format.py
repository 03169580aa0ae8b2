"""A log line shows its fields, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from rayfold.runtime.log_format import CURRENT_TRACE, FieldFormatter, JsonFormatter

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def record(**fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "actors", "levelname": "ERROR", "msg": "a decision failed"} | fields
    )


class _Talkative:
    """As pydantic's errors do."""

    def __repr__(self) -> str:
        return "two\nlines \x1b[2J"


def as_json(**fields: Any) -> dict[str, Any]:
    line = JsonFormatter("write#0").format(record(**fields))
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_fields_stand_behind_the_message() -> None:
    line = FieldFormatter().format(
        record(stream="order-1", error="no such key", revision=0),
    )
    assert line.endswith(
        "ERROR actors: a decision failed stream=order-1 error='no such key' revision=0"
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\n2026-12-01\tERROR", r"'a\n2026-12-01\tERROR'"),
        ("\x1b]52;c;Y3VybA==\x07", r"'\x1b]52;c;Y3VybA==\x07'"),
        (ValueError("no \x9b31m"), r"ValueError('no \x9b31m')"),
        (_Talkative(), r"two\nlines \x1b[2J"),
    ],
)
def test_foreign_text_is_escaped_and_cannot_forge_a_line(value: object, told: str) -> None:
    line = FieldFormatter().format(record(error=value))
    assert line.endswith(f"a decision failed error={told}")
    try:
        raise RuntimeError("\x1b[2Jgone\n2026-12-01 ERROR actors: forged")
    except RuntimeError:
        line = FieldFormatter().format(record(exc_info=sys.exc_info(), stack_info="s\nt"))
    head, *rest = line.splitlines()
    assert head.endswith("a decision failed")
    assert "  RuntimeError: \\x1b[2Jgone" in rest
    assert "  2026-12-01 ERROR actors: forged" in rest
    assert all(each.startswith("  ") for each in rest)


def test_a_foreign_message_cannot_forge_a_line() -> None:
    line = FieldFormatter().format(record(msg="no such path: %s", args=("a\nERROR \x1b[2J",)))
    assert line.endswith(r"ERROR actors: no such path: a\nERROR \x1b[2J")


def test_as_json_a_line_has_what_is_always_there_and_its_fields() -> None:
    line = as_json(command_id="c", correlation_id="k", revision=0, at=ValueError("odd"))
    assert line["time"].endswith("Z")
    assert (line["level"], line["logger"]) == ("error", "actors")
    assert (line["message"], line["part"]) == ("a decision failed", "write#0")
    assert (line["command_id"], line["correlation_id"], line["revision"]) == ("c", "k", 0)
    assert line["at"] == "odd"


def test_as_json_a_line_names_the_trace_that_it_belongs_to() -> None:
    assert "trace_id" not in as_json()
    line = as_json(traceparent=TRACE)
    assert (line["trace_id"], line["span_id"]) == tuple(TRACE.split("-")[1:3])
    assert "traceparent" not in line
    token = CURRENT_TRACE.set(TRACE)
    try:
        assert as_json()["trace_id"] == TRACE.split("-")[1]
    finally:
        CURRENT_TRACE.reset(token)


def test_as_json_an_exception_is_one_line_and_no_field_hides_another() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        line = as_json(exc_info=sys.exc_info(), level="mine", time="noon")
    assert "ValueError: a\nb" in line["exception"]
    assert (line["level"], line["field_level"], line["field_time"]) == ("error", "mine", "noon")
