"""Process managers that never end a process are found, and others are not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from deploy.authoring.endless import endless
from rayfold import (
    Aggregate,
    Command,
    Complete,
    Event,
    Message,
    ProcessManager,
    Registry,
    Schedule,
    Step,
    on_timeout,
    starts,
)


class Plant(Command, name="plant", creates=True):
    tree: str


class Planted(Event, name="Planted"):
    tree: str


class Tree(Aggregate[Message, Plant, Planted], category="tree", id_field="tree", initial=Message()):
    @staticmethod
    def decide(state: Message, command: Plant) -> list[Planted]:
        return [Planted(tree=command.tree)]

    @staticmethod
    def evolve(state: Message, event: Planted) -> Message:
        return state


class Growing(ProcessManager[Message, Planted], name="growing", key="tree", initial=Message()):
    """It waits and waits: what it never names is `Complete`."""

    @staticmethod
    def evolve(state: Message, happened: Any) -> Message:
        return state

    @staticmethod
    @starts(Planted)
    def planted(state: Message, event: Planted) -> Iterator[Step]:
        yield from wait()

    @staticmethod
    @on_timeout("later")
    def later(state: Message, happened: Any) -> Iterator[Step]:
        yield from wait()


class Felled(ProcessManager[Message, Planted], name="felled", key="tree", initial=Message()):
    @staticmethod
    def evolve(state: Message, happened: Any) -> Message:
        return state

    @staticmethod
    @starts(Planted)
    def planted(state: Message, event: Planted) -> Iterator[Step]:
        yield from Felled.fell()

    @staticmethod
    def fell() -> Iterator[Step]:
        yield from sorted(over(), key=lambda each: repr(each))

    @staticmethod
    @on_timeout("later")
    def later(state: Message, happened: Any) -> Iterator[Step]:
        yield from wait()


def wait() -> Iterator[Step]:
    yield Schedule("later", at="2030-01-01T00:00:00Z")  # type: ignore[arg-type]


def over() -> list[Step]:
    return [Complete()]


def test_a_process_manager_that_never_completes_is_found() -> None:
    """Functions and methods that a handler calls count too."""
    assert [*endless(Registry([sys.modules[__name__]]))] == ["Growing"]
