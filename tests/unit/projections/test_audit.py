"""Actions of operators are on the log; if it cannot be written, they act all the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.port import AppendResult, StreamAppend
from projections.operations.audit import Audit


async def test_the_audit_says_who_asked_for_what_and_how_it_failed() -> None:
    audit = Audit(MemoryLog())
    note = await audit.asked("ops", "scale", b'{"target":"memory","n":2}')
    await audit.asked("ops", "delete", b"no json \xff")
    await audit.failed(note, 422, "there is no such target")
    failed, deleted, scaled = await audit.last(10)
    assert (scaled["type"], scaled["principal"], scaled["action"]) == (
        "OperatorAsked",
        "ops",
        "scale",
    )
    assert scaled["arguments"] == {"target": "memory", "n": 2}
    assert deleted["arguments"] == "no json \ufffd"
    assert (failed["type"], failed["asked"], failed["status"]) == ("OperatorFailed", note, 422)
    assert scaled["at"].tzinfo is UTC
    assert await audit.last(1) == [failed]


class Away(MemoryLog):
    """A log that takes nothing."""

    async def append(self, appends: Sequence[StreamAppend]) -> list[AppendResult]:
        raise StoreUnavailable("it is away")


async def test_operators_can_act_although_the_log_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await Audit(Away()).asked("ops", "scale", b"{}")
    assert caplog.records[-1].principal == "ops"  # type: ignore[attr-defined]
