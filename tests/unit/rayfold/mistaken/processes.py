"""Process managers, each with something wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rayfold import (
    CommandRejected,
    Complete,
    Message,
    ProcessManager,
    Step,
    TimedOut,
    on,
    on_rejected,
    on_timeout,
    starts,
)
from tests.unit.rayfold.mistaken.things import NotKebab, TwiceAgain, Versioned
from tests.unit.rayfold.mistaken.views import NobodyYields


class Progress(Message):
    pass


class NoTime(Message):
    at: datetime | None = None


class Dashed(
    ProcessManager[Progress, Versioned], name="two-words", key="thing_id", initial=Progress()
):
    @staticmethod
    def evolve(state: Progress, happened: Any) -> Progress:
        return state

    @staticmethod
    @on(Versioned)
    def never_begins(state: Progress, event: Versioned) -> Iterator[Step]:
        yield Complete()


class NoArguments(ProcessManager, name="bare"):  # type: ignore[type-arg]
    pass


class Various(
    ProcessManager[NoTime, Versioned | NobodyYields], name="various", key="colour", max_chain=0
):
    @staticmethod
    def evolve(state: NoTime, happened: Any) -> NoTime:
        return state

    @staticmethod
    @starts(Versioned, key=lambda event: event.thing_id)
    def nothing(state: NoTime, event: Versioned) -> Any:
        """Do nothing."""

    @staticmethod
    @on(NotKebab)  # type: ignore[arg-type]
    def unseen(state: NoTime, event: Any) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_timeout("late", "")
    def late(state: NoTime, timeout: TimedOut) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_timeout("late")
    def later(state: NoTime, timeout: TimedOut) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_rejected(Progress, TwiceAgain)  # type: ignore[arg-type]
    def refused(state: NoTime, rejected: CommandRejected[NotKebab]) -> Iterator[Step]:
        yield Complete()
