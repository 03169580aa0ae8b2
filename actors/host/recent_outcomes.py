"""The outcomes of a host's latest commands, including refusals, for callers that did not send them.

The log records what was done, but by stream, and it records no refusals. A gateway that is asked
about a command of another gateway, which may be gone, asks the hosts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand, KeyReused, NeedsOwnActor, Overloaded

CAPACITY = 20_000
"""Commands that a host remembers while it runs: about 5 MB."""


_NO_OUTCOME = (KeyReused, InvalidCommand, Overloaded, NeedsOwnActor)


class _Batch:
    """Commands that arrived together. `coming` has the futures of their outcomes until all are
    known.
    """

    __slots__ = ("coming", "ids", "outcomes", "streams")

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self.ids = [each.command_id for each in envelopes]
        self.streams = [each.stream for each in envelopes]
        self.coming: Sequence[asyncio.Future[Outcome]] = ()
        self.outcomes: Sequence[Outcome] | None = None

    def outcome(self, at: int) -> Outcome | None:
        """Return the outcome of the command at this place; None if it is not known yet."""
        if self.outcomes is not None:
            return self.outcomes[at]
        if self.coming and self.coming[at].done() and not self.coming[at].cancelled():
            return self.coming[at].result()
        return None

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Store the outcomes, once all are known.

        Errors are kept without traceback and cause, which would keep states and commands in memory,
        including those of people who are forgotten later.
        """
        for each in outcomes:
            if isinstance(each, Exception):
                each.__traceback__ = each.__context__ = each.__cause__ = None
        self.outcomes, self.coming = outcomes, ()


class RecentOutcomes:
    """One entry per batch of any size, found by the command ids in it.

    A reader may ask for ids as often as it likes, so a scan of all entries would delay every
    command of the host.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._batches: deque[_Batch] = deque()
        self._with: dict[str, deque[_Batch]] = {}
        """The batches that contain a command, in order: it may have been sent again."""
        self._size = 0

    def begin(self, envelopes: Sequence[Envelope]) -> _Batch:
        """Note that these commands are in progress; outcomes go to the returned batch."""
        batch = _Batch(envelopes)
        self._batches.append(batch)
        self._size += len(batch.ids)
        for each in dict.fromkeys(batch.ids):
            self._with.setdefault(each, deque()).append(batch)
        while self._size > self._capacity and len(self._batches) > 1:
            self._forget(self._batches.popleft())
        return batch

    def _forget(self, oldest: _Batch) -> None:
        self._size -= len(oldest.ids)
        for each in dict.fromkeys(oldest.ids):
            batches = self._with[each]
            batches.popleft()
            if not batches:
                del self._with[each]

    def of(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return the command's stream, and its outcome if known; None for an unknown command.

        If a command was sent more than once, an outcome on the log counts first, then the latest
        one. A refusal without reading the command (its id belongs to another), or a redirection, is
        not an outcome.
        """
        last: tuple[str, Outcome | None] | None = None
        for batch in reversed(self._with.get(command_id, ())):
            for at, each in enumerate(batch.ids):
                if each != command_id:
                    continue
                outcome = batch.outcome(at)
                if isinstance(outcome, Done):
                    return batch.streams[at], outcome
                if not isinstance(outcome, _NO_OUTCOME):
                    last = last or (batch.streams[at], outcome)
        return last
