"""What became of a host's last commands, for whoever did not send them: also of those refused.

The log knows what was done, but by stream; and of a refusal it knows nothing. A gateway that is
asked for a command of another one, which may be gone, asks the hosts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand, KeyReused, NeedsOwnActor, Overloaded

CAPACITY = 20_000
"""Commands that a host remembers until it ends: some 5 MB."""


_NO_OUTCOME = (KeyReused, InvalidCommand, Overloaded, NeedsOwnActor)


class _Batch:
    """Commands that arrived together. `coming` has their outcomes until all are known."""

    __slots__ = ("coming", "ids", "outcomes", "streams")

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self.ids = [each.command_id for each in envelopes]
        self.streams = [each.stream for each in envelopes]
        self.coming: Sequence[asyncio.Future[Outcome]] = ()
        self.outcomes: Sequence[Outcome] | None = None

    def outcome(self, at: int) -> Outcome | None:
        """Return what became of one of them; None if it is not known yet."""
        if self.outcomes is not None:
            return self.outcomes[at]
        if self.coming and self.coming[at].done() and not self.coming[at].cancelled():
            return self.coming[at].result()
        return None

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """All outcomes are known.

        Errors are kept as what they say: where one was raised states and commands were in memory,
        also of people who are forgotten meanwhile, and would be for as long.
        """
        for each in outcomes:
            if isinstance(each, Exception):
                each.__traceback__ = each.__context__ = each.__cause__ = None
        self.outcomes, self.coming = outcomes, ()


class RecentOutcomes:
    """One note for a batch, whatever its size, found by the ids in it.

    Whoever may read may ask for any id as often as it likes: a look through all would hold up
    every command of the host.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._batches: deque[_Batch] = deque()
        self._with: dict[str, deque[_Batch]] = {}
        """Those that a command is in, in their order: it may have been sent again."""
        self._size = 0

    def begin(self, envelopes: Sequence[Envelope]) -> _Batch:
        """Note that these commands are on their way; set their outcomes on the batch returned."""
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
        """Return the command's stream, and what became of it if that is known; None if nothing is.

        Of a command that was sent again, what stands in the log counts, then what came last. What
        was refused unread, as under another's id, or was passed on, is no outcome.
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
