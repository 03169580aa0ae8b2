"""A domain with two publications and a reactor, for a whole stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rayfold import (
    Aggregate,
    Attempt,
    Command,
    Event,
    IntegrationEvent,
    Message,
    Publication,
    Query,
    Reactor,
    View,
    on,
    starts,
)


class Pin(Command, name="pin"):
    """Put a note on a board."""

    board: str
    number: int


class Pinned(Event, name="Pinned"):
    """There it hangs."""

    board: str
    number: int


class Tidy(Command, name="tidy"):
    """Put the notes of a board in order."""

    board: str


class Tidied(Event, name="Tidied"):
    """They are: nobody outside is told, and no reactor."""

    board: str


class BoardState(Message):
    """Nothing that decisions need."""


class Board(
    Aggregate[BoardState, Pin | Tidy, Pinned | Tidied],
    category="board",
    id_field="board",
    initial=BoardState(),
):
    """Takes every note."""

    @staticmethod
    def decide(state: BoardState, command: Pin | Tidy) -> list[Pinned | Tidied]:
        match command:
            case Pin():
                return [Pinned(board=command.board, number=command.number)]
            case Tidy():
                return [Tidied(board=command.board)]

    @staticmethod
    def evolve(state: BoardState, event: Pinned | Tidied) -> BoardState:
        return state


class Boards(View, name="boards", key="board"):
    """How many notes hang there."""

    board: str
    notes: int = 0

    @staticmethod
    @starts(Pinned)
    def begun(event: Pinned) -> Boards:
        return Boards(board=event.board, notes=1)


class GetBoard(Query, name="get-board", view=Boards):
    """One board."""

    board: str


class Note(IntegrationEvent, name="boards.note"):
    """Somebody pinned a note."""

    board: str
    number: int


class ToWebhook(Publication[Note], name="to-webhook", key="board"):
    """Goes to a webhook in the tests."""

    @staticmethod
    @on(Pinned)
    def pinned(event: Pinned) -> Iterator[Note]:
        yield Note(board=event.board, number=event.number)


class ToNats(Publication[Note], name="to-nats", key="board"):
    """Goes to NATS in the tests."""

    @staticmethod
    @on(Pinned)
    def pinned(event: Pinned) -> Note:
        return Note(board=event.board, number=event.number)


class Filing(Reactor, name="filing", attempts=2, timeout=10.0):
    """Writes each note of the board `files` to a file, as long as there is a folder for it."""

    async def open(self) -> None:
        self.folder = Path(os.environ["NOTICES_FOLDER"])

    @on(Pinned)
    async def pinned(self, event: Pinned, attempt: Attempt) -> None:
        if event.board == "files":
            with (self.folder / "files" / "notes").open("a") as notes:
                notes.write(f"{attempt.id} {event.number} {attempt.number}\n")
