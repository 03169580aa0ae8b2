"""A batch of commands on its way to a host, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.envelope import Envelope, Outcome
from actors.errors import Overloaded, Unavailable


class SentBatch:
    """Outcomes come for all commands at once, or for some of them first."""

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self._envelopes = envelopes
        self._outcomes: dict[int, Outcome] = {}
        self._late: dict[int, asyncio.Future[Outcome]] = {}
        self._begun = asyncio.Event()
        self._error: BaseException | None = None
        self._went_out = self._may_be_done = False

    @property
    def left(self) -> dict[int, Envelope]:
        """The commands that have no outcome yet, by their places."""
        commands = enumerate(self._envelopes)
        return {at: each for at, each in commands if at not in self._outcomes}

    def settle(self, at: int, outcome: Outcome) -> None:
        """Take note of an outcome; the first one counts.

        That nothing was done holds for the last attempt alone.
        """
        if at not in self._outcomes:
            if self._may_be_done and isinstance(outcome, Overloaded):
                outcome = unsure(outcome)
            self._outcomes[at] = outcome
            late = self._late.pop(at, None)
            if late is not None and not late.done():  # who waits may have gone away
                late.set_result(outcome)

    def settle_left(self, outcome: Outcome) -> None:
        """Take note that what has no outcome yet has this one."""
        for at in self.left:
            self.settle(at, outcome)

    def goes_out(self) -> None:
        """Take note that the host gets it now, whatever becomes of its answer."""
        self._went_out = True

    def unanswered(self) -> None:
        """Take note that the host has not answered: if the batch went out, it may be done."""
        self._may_be_done = self._went_out

    def go_on(self) -> None:
        """Let `answers` return what is there."""
        self._begun.set()

    def fail(self, error: BaseException) -> None:
        """Let whoever waits get an error: no outcome comes any more."""
        self._error = error
        for late in self._late.values():
            if not late.done():
                late.set_exception(error)

    async def answers(self) -> list[Outcome | asyncio.Future[Outcome]]:
        """Wait until outcomes are there; return them, and futures for those that are not.

        Raises:
            BaseException: what `fail` was told.
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
