"""A state is frozen, but a list in it is not: code that appends to it gets an error."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Never

import pytest
from pydantic import AfterValidator, Field

from actors.errors import DecisionFailed
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from rayfold import (
    Aggregate,
    Command,
    Decision,
    Event,
    Message,
    ProcessManager,
    Registry,
    Rejected,
    Send,
    Step,
    UtcDatetime,
    View,
    on,
    starts,
)
from rayfold.recorded import RecordedEvent
from rayfold.testing import Story, given, rows_of
from rayfold.unchanged import ChangedInPlace, Unchanged, fresh


class Pack(Command, name="pack", creates=True):
    bag: str
    item: str


class Packed(Event, name="Packed"):
    bag: str
    item: str


class BagState(Message):
    items: list[str] = Field(default_factory=list)


class Bag(Aggregate[BagState, Pack, Packed], category="bag", id_field="bag", initial=BagState()):
    @staticmethod
    def decide(state: BagState, command: Pack) -> Iterable[Packed]:
        if command.item == "refused":
            state.items.append(command.item)
            raise Rejected("full", "nothing more fits")
        if command.item == "look":
            raise Rejected("look", ", ".join(state.items))
        return [Packed(bag=command.bag, item=command.item)]

    @staticmethod
    def evolve(state: BagState, event: Packed) -> BagState:
        if event.item == "in place":
            state.items.append(event.item)
            return state
        return state.replace(items=[*state.items, event.item])


class Fill(Command, name="fill", creates=True):
    sack: str
    items: list[str] = Field(default_factory=list)
    how: str = ""


class Filled(Event, name="Filled"):
    sack: str
    items: list[str]


class Sack(Aggregate[BagState, Fill, Filled], category="sack", id_field="sack", initial=BagState()):
    """Each state has the list of the event before."""

    @staticmethod
    def decide(state: BagState, command: Fill) -> Iterable[Filled]:
        if command.how == "look":
            raise Rejected("look", ", ".join(state.items))
        if command.how == "changes the command":
            command.items.append("salt")
        return [Filled(sack=command.sack, items=[each]) for each in command.items]

    @staticmethod
    def evolve(state: BagState, event: Filled) -> BagState:
        if state.items:
            event.items.append(state.items[0])  # the event's
            state.items.append("seen")  # the event's before it, in the state between two of them
        return state.replace(items=event.items)


class Move(Command, name="move"):
    bag: str


class Moved(Event, name="Moved"):
    bag: str


class Kept(Aggregate[BagState, Never, Moved], category="kept", id_field="bag", initial=BagState()):
    @staticmethod
    def evolve(state: BagState, event: Moved) -> BagState:
        return state


class MoveIt(Decision[Move], reads={"kept": Kept}):
    @staticmethod
    def decide(states: Any, command: Move) -> list[Moved]:
        states["kept"].items.append("moved")
        return [Moved(bag=command.bag)]


class Packing(ProcessManager[BagState, Packed], name="packing", key="bag", initial=BagState()):
    @staticmethod
    def evolve(state: BagState, happened: Any) -> BagState:
        state.items.append("told")
        return state

    @staticmethod
    @starts(Packed)
    def packed(state: BagState, event: Packed) -> Iterable[Step]:
        yield Send(Move(bag=event.bag))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([sys.modules[__name__]])


@pytest.mark.parametrize("item", ["refused", "in place"])
async def test_a_command_whose_functions_change_the_state_in_place_fails(
    registry: Registry, item: str
) -> None:
    runtime = LocalRuntime(registry)
    await runtime.send(Pack(bag="a", item="tea"))
    with pytest.raises(DecisionFailed, match="Bag changes the BagState that it is given"):
        await runtime.send(Pack(bag="a", item=item))
    await runtime.send(Pack(bag="a", item="cake"))
    with pytest.raises(Rejected, match=r"^tea, cake$"):
        await runtime.send(Pack(bag="a", item="look"))


async def test_a_decision_over_several_aggregates_that_changes_a_state_in_place_fails(
    registry: Registry,
) -> None:
    with pytest.raises(DecisionFailed, match="MoveIt changes the BagState"):
        await LocalRuntime(registry).send(Move(bag="a"))
    assert Kept.initial == BagState()


async def test_an_event_already_on_the_log_does_not_change_the_initial_state_of_others(
    registry: Registry,
) -> None:
    log = MemoryLog()
    event = Packed(bag="a", item="in place")
    record = NewRecord("Packed", Packed.__rayfold__.encode(event), {}, "an id")
    await log.append([StreamAppend("bag-a", ANY, [record])])
    runtime = LocalRuntime(registry, log)
    for bag, items in (("a", "in place"), ("b", "")):
        with pytest.raises(Rejected, match=f"^{items}$"):
            await runtime.send(Pack(bag=bag, item="look"))


async def test_what_is_written_is_what_was_decided(registry: Registry) -> None:
    """Although folds change the events: otherwise the log would have what the first fold made."""
    runtime = LocalRuntime(registry)
    await runtime.send(Fill(sack="a", items=["tea", "cake"]))
    raws = [each.data async for each in runtime.log.read_stream("sack-a")]
    assert raws == [b'{"sack":"a","items":["tea"]}', b'{"sack":"a","items":["cake"]}']
    for again in (runtime, LocalRuntime(registry, runtime.log)):
        with pytest.raises(Rejected, match=r"^cake, tea$"):
            await again.send(Fill(sack="a", how="look"))


async def test_a_command_that_is_decided_again_has_the_same_result(registry: Registry) -> None:
    """A command that creates an aggregate is decided twice if the aggregate exists."""
    log = MemoryLog()
    empty = NewRecord("Filled", b'{"sack":"a","items":[]}', {}, "an id")
    await log.append([StreamAppend("sack-a", ANY, [empty])])
    await LocalRuntime(registry, log).send(Fill(sack="a", how="changes the command"))
    raws = [each.data async for each in log.read_stream("sack-a", after=0)]
    assert raws == [b'{"sack":"a","items":["salt"]}']


def test_the_test_kit_reports_a_change_in_place() -> None:
    for play in (given(Sack).when, Story(Sack).send):
        with pytest.raises(ChangedInPlace, match="the Fill"):
            play(Fill(sack="a", how="changes the command"))
        with pytest.raises(ChangedInPlace, match="the Filled"):
            play(Fill(sack="a", items=["tea", "cake"]))
    with pytest.raises(ChangedInPlace, match="the Filled"):
        given(Sack, Filled(sack="a", items=["tea"]), Filled(sack="a", items=["cake"]))
    with pytest.raises(ChangedInPlace):
        given(Bag).when(Pack(bag="a", item="refused"))
    with pytest.raises(ChangedInPlace):
        given(Bag, Packed(bag="a", item="in place"))
    with pytest.raises(ChangedInPlace):
        given(MoveIt).when(Move(bag="a"))
    with pytest.raises(ChangedInPlace):
        given(Packing).when(Packed(bag="a", item="tea"))
    with pytest.raises(ChangedInPlace):
        Story(Bag, Packing).send(Pack(bag="a", item="tea"))
    assert Bag.initial == Packing.__rayfold__.initial == BagState()


class Persistent:
    """A class of the author's own, who knows what may be changed."""


@dataclass(frozen=True)
class Hint:
    """What an annotation says beside the type."""


class Pair(NamedTuple):
    first: int


class Deep(Message):
    inner: tuple[BagState, ...] = ()
    again: Deep | None = None


FROZEN: list[Any] = [
    int,
    UtcDatetime,
    Annotated[str, Hint(), AfterValidator(str.strip)],
    tuple[frozenset[int], ...],
    Persistent,
    Pair,
]
CHANGEABLE: list[Any] = [list[int], dict[str, int], tuple[set[int], ...] | None, Deep, Any]


@pytest.mark.parametrize("kind", [*FROZEN, *CHANGEABLE])
def test_only_mutable_values_are_copied(kind: Any) -> None:
    class State(Message, arbitrary_types_allowed=True):
        held: kind = None

    state = State()
    assert (fresh(state) is not state) is (kind in CHANGEABLE)
    with Unchanged(Bag, state):
        pass


class Torn(View, name="torn", key="bag"):
    bag: str
    items: list[str] = Field(default_factory=list)

    @staticmethod
    @on(Packed)
    def packed(row: Torn, event: Packed) -> Torn:
        row.items.append(event.item)
        if event.item == "broken":
            raise ValueError("it breaks")
        return row


def test_a_fold_that_raises_has_not_changed_its_row() -> None:
    definition, row = Torn.__rayfold__, None
    for at, item in enumerate(["one", "two"]):
        recorded = RecordedEvent(Packed(bag="a", item=item), "bag-a", at, at, {})
        row = definition.fold(row, recorded, "a")
    broken = RecordedEvent(Packed(bag="a", item="broken"), "bag-a", 2, 2, {})
    with pytest.raises(ValueError, match="it breaks"):
        definition.fold(row, broken, "a")
    assert row is not None
    assert row.row == Torn(bag="a", items=["one", "two"])
    assert rows_of(Torn, Packed(bag="a", item="tea"), Packed(bag="a", item="cake"))["a"] == Torn(
        bag="a", items=["tea", "cake"]
    )
