"""Answering commands: each caller gets its outcome, and a repeat gets the outcome of the first
attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from actors.envelope import Done, Outcome
from actors.errors import AggregateDeleted, EventStoreUnavailable, Unavailable
from actors.host import command_traces
from actors.host.joint_plan import JointlySeen, JointlyWritten, JointPlan
from actors.host.plan import PendingCommand, Plan, Written
from actors.host.receipts import joint_receipt, receipt_position
from actors.host.recent_commands import Seen
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.port import Log

log = logging.getLogger(__name__)


class Answers:
    """The answers of one host. A repeat whose receipt must be read from the log gets a task."""

    def __init__(
        self, log: Log, prefixes: list[str], spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        """`spawn` starts such a task; `prefixes` are the stream prefixes of the whole domain."""
        self._log = log
        self._prefixes = prefixes
        self._spawn = spawn
        self.owed = 0
        """Commands that were accepted and have no answer yet."""
        self.given = 0

    def give(self, pending: PendingCommand, outcome: Outcome) -> None:
        """Answer a command with its outcome."""
        self.owed -= 1
        self.given += 1
        if pending.span is not None:
            command_traces.end(pending.span, outcome)
        if not pending.answer.done():
            pending.answer.set_result(outcome)

    def give_all(self, planned: Plan | JointPlan, position: int) -> None:
        """Answer a plan's commands by its verdicts; what was written ends at `position`."""
        for pending, verdict in zip(planned.commands, planned.verdicts, strict=True):
            if isinstance(verdict, Written):
                self.give(pending, Done(verdict.revision, position))
            elif isinstance(verdict, Seen):
                self._repeat(pending, planned.entity.stream, verdict)
            elif isinstance(verdict, JointlyWritten):
                revision = verdict.revisions[planned.entity.stream]
                self.give(pending, Done(revision, position, verdict.revisions))
            elif isinstance(verdict, JointlySeen):
                lead = pending.envelope.stream
                found = joint_receipt(self._log, self._prefixes, lead, verdict.seen)
                self._spawn(self._give_when_found(pending, found))
            else:
                self.give(pending, verdict)

    def _repeat(self, pending: PendingCommand, stream: str, seen: Seen) -> None:
        if seen.exact or (seen.position and not self._log.receipts_share_position):
            self.give(pending, Done(seen.revision, seen.position))
        else:
            self._spawn(self._give_when_found(pending, self._receipt(stream, seen.revision)))

    async def _receipt(self, stream: str, revision: int) -> Done:
        position = await receipt_position(self._log, self._prefixes, stream, revision)
        return Done(revision, position)

    async def _give_when_found(self, pending: PendingCommand, found: Awaitable[Done]) -> None:
        outcome: Outcome
        try:
            outcome = await found
        except StoreUnavailable as error:
            outcome = EventStoreUnavailable.because(error)
        except StreamTombstoned as error:  # another client has just deleted it
            outcome = AggregateDeleted(error.stream)
        except Exception as error:
            # Whatever the error is, every caller must get an answer.
            log.exception("a receipt could not be found")
            outcome = Unavailable(f"the receipt could not be found: {error!r}")
        self.give(pending, outcome)
