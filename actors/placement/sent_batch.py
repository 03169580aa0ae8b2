"""A batch of commands that is being sent to a host, and its known outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.envelope import Envelope, Outcome
from actors.errors import Overloaded, Unavailable


class SentBatch:
    """Outcomes arrive for all commands at once, or for some of them first."""

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self._envelopes = envelopes
        self._outcomes: dict[int, Outcome] = {}
        self._late: dict[int, asyncio.Future[Outcome]] = {}
        self._begun = asyncio.Event()
        self._error: BaseException | None = None
        self._went_out = self._may_be_done = False

    @property
    def left(self) -> dict[int, Envelope]:
        """The commands that have no outcome yet, by their places in the batch."""
        commands = enumerate(self._envelopes)
        return {at: each for at, each in commands if at not in self._outcomes}

    def settle(self, at: int, outcome: Outcome) -> None:
        """Record an outcome; the first one counts.

        An outcome that says nothing was done only holds for the last attempt.
        """
        if at not in self._outcomes:
            if self._may_be_done and isinstance(outcome, Overloaded):
                outcome = unsure(outcome)
            self._outcomes[at] = outcome
            late = self._late.pop(at, None)
            if late is not None and not late.done():  # the caller may have gone away
                late.set_result(outcome)

    def settle_left(self, outcome: Outcome) -> None:
        """Record this outcome for all commands that have none yet."""
        for at in self.left:
            self.settle(at, outcome)

    def goes_out(self) -> None:
        """Record that the batch is now sent, whatever becomes of the answer."""
        self._went_out = True

    def unanswered(self) -> None:
        """Record that the host did not answer: if the batch was sent, it may have been executed."""
        self._may_be_done = self._went_out

    def go_on(self) -> None:
        """Let `answers` return the outcomes that are there."""
        self._begun.set()

    def fail(self, error: BaseException) -> None:
        """Raise an error in the callers that wait: no more outcomes will come."""
        self._error = error
        for late in self._late.values():
            if not late.done():
                late.set_exception(error)

    async def answers(self) -> list[Outcome | asyncio.Future[Outcome]]:
        """Wait for outcomes; return them, and futures for those that are missing.

        Raises:
            BaseException: the error that was passed to `fail`.
        """
        await self._begun.wait()
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        self._late = {at: loop.create_future() for at in self.left}
        everything = self._outcomes | self._late
        return [everything[at] for at in range(len(self._envelopes))]


def unsure(refused: Overloaded) -> Unavailable:
    """Return the outcome of a command that was refused, but had been sent before."""
    detail = "it was sent before, and had no answer; then too many commands waited"
    return Unavailable(detail, refused.retry_after)
