"""The test kit itself: what passes, and above all what does not."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import Field

from domain.inventory.stock import ReceiveStock, StockItem, StockReceived, StockReserved
from domain.inventory.views import StockLevels
from examples.coupons.redeeming import Redeem
from rayfold import (
    Aggregate,
    Command,
    Complete,
    Decision,
    DomainError,
    Event,
    Forbidden,
    IntegrationEvent,
    Message,
    NotFound,
    ProcessManager,
    Publish,
    Read,
    Rejected,
    Send,
    Step,
    View,
    starts,
    upcaster,
)
from rayfold.event_checks import InvalidEvent
from rayfold.testing import Story, given, rows_of

TWO = StockReceived(sku="tea", quantity=2)
ONE_RESERVED = StockReserved(sku="tea", quantity=1)


class Priced(Event, name="Priced", version=3):
    sku: str
    cents: int


@upcaster("Priced", from_version=1)
def in_cents(data: dict[str, Any]) -> dict[str, Any]:
    return {"sku": data["sku"], "cents": round(data.pop("price") * 100)}


@upcaster("Priced", from_version=2)
def lower(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"sku": data["sku"].lower()}


@upcaster("Repriced", from_version=1)
def several(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], int]]:
    return [("Priced", {"sku": each, "cents": data["cents"]}, 2) for each in data["skus"]]


@upcaster("Printed", from_version=1)
def nothing(data: dict[str, Any]) -> None:
    return None


def row(received: int, reserved: int) -> StockLevels:
    """Return the row of tea."""
    events = [StockReceived(sku="tea", quantity=received)]
    events += [StockReserved(sku="tea", quantity=reserved)] if reserved else []
    [found] = given(StockLevels, *events).rows.values()
    return found


class Poured(Event, name="Poured"):
    cup: str
    litres: float = 1.0
    by: Sequence[str] = Field(default_factory=list)


class Pour(Command, name="pour"):
    cup: str
    how: str


class Cup(Message):
    poured: int = 0


class Cups(Aggregate[Cup, Pour, Poured], category="cup", id_field="cup", initial=Cup()):
    @staticmethod
    def decide(state: Cup, command: Pour) -> Any:
        match command.how:
            case "into another":
                return [Poured(cup="other")]
            case "what is not its own":
                return [TWO]
            case "no number":
                return [Poured(cup=command.cup).replace(litres=1.0), _unvalidated(command)]
            case "no array":
                return [Poured(cup=command.cup, by=("ada",))]
            case "nothing":
                return [None]
            case "no list":
                return Poured(cup=command.cup)
            case "no end":
                return None
        return [Poured(cup=command.cup)]

    @staticmethod
    def evolve(state: Cup, event: Poured) -> Cup:
        return state.replace(poured=state.poured + 1)


class Swap(Command, name="swap-cups"):
    mine: str
    theirs: str


class Swapping(
    Decision[Swap], reads={"mine": Read(Cups, by="mine"), "theirs": Read(Cups, by="theirs")}
):
    @staticmethod
    def decide(states: Any, command: Swap) -> list[Event]:
        return []


class Spill(Command, name="spill"):
    cup: str
    by: Sequence[str]


class Mopped(IntegrationEvent, name="mopped"):
    cup: str
    by: Sequence[str]


class Telling(ProcessManager[Cup, Poured], name="telling", key="cup", initial=Cup()):
    @staticmethod
    def evolve(state: Cup, happened: Any) -> Cup:
        return state

    @staticmethod
    @starts(Poured)
    def poured(state: Cup, event: Poured) -> Iterator[Step]:
        yield Publish(Mopped(cup=event.cup, by=("ada",)))
        yield Complete()


class Spilt(Event, name="Spilt"):
    cup: str


class Mopping(ProcessManager[Cup, Poured | Spilt], name="mopping", key="cup", initial=Cup()):
    @staticmethod
    def evolve(state: Cup, happened: Any) -> Cup:
        return state

    @staticmethod
    @starts(Poured)
    def poured(state: Cup, event: Poured) -> Iterator[Step]:
        yield Send(Spill(cup=event.cup, by=("ada",)))
        yield Complete()


def _unvalidated(command: Pour) -> Poured:
    return Poured.model_construct(cup=command.cup, litres=float("nan"))


class TestRules:
    """What the runtime would refuse, a test finds: 500 `domain-failed` is no place to learn it."""

    @pytest.mark.parametrize(
        ("how", "told"),
        [
            ("into another", r"Poured\.cup is 'other', another aggregate's id"),
            ("what is not its own", "yields a StockReceived, which is not among the events"),
            ("no number", "NaN is not valid JSON"),
            ("no array", r"Poured\.by does not come back .* a tuple became a list"),
            ("nothing", "yields a NoneType"),
            ("no list", "returns a Poured: return it in a list"),
            ("no end", "returns None: return an empty list if nothing happens"),
        ],
    )
    def test_events_that_could_not_be_written_are_reported(self, how: str, told: str) -> None:
        for play in (given(Cups).when, Story(Cups).send):
            with pytest.raises((InvalidEvent, ValueError), match=told):
                play(Pour(cup="mine", how=how))

    def test_an_event_must_be_given_and_not_its_class(self) -> None:
        for play in (given, rows_of):
            with pytest.raises(TypeError, match="StockReceived is a class: give what happened"):
                play(StockLevels, StockReceived)  # type: ignore[operator]

    def test_a_command_of_another_aggregate_is_refused(self) -> None:
        with pytest.raises(LookupError, match="Cups takes no ReceiveStock"):
            given(Cups).when(ReceiveStock(sku="tea", quantity=1))
        with pytest.raises(LookupError, match="Redeem takes no Pour"):
            given(Redeem).when(Pour(cup="mine", how="well"))

    def test_events_of_another_aggregate_are_refused(self) -> None:
        """In the product that aggregate has no events: the test would pass for no reason."""
        with pytest.raises(LookupError, match="Pour is for 'cup-mine', where no Poured"):
            given(Cups, Poured(cup="other")).when(Pour(cup="mine", how="well"))
        with pytest.raises(LookupError, match="Cups has no StockReceived"):
            given(Cups, TWO)

    def test_the_same_aggregate_cannot_be_read_by_two_names(self) -> None:
        swap = Swap(mine="a", theirs="A")
        for play in (given(Swapping).when, Story(Cups, Swapping).send):
            with pytest.raises(ValueError, match="mine and theirs are the same but for their case"):
                play(swap)

    @pytest.mark.parametrize("kind", [Rejected, NotFound, Forbidden])
    @pytest.mark.parametrize("wrong", [(7, "no"), ("no", None), (b"no", "no")])
    def test_a_refusal_must_be_text(self, kind: Any, wrong: tuple[Any, Any]) -> None:
        with pytest.raises(TypeError, match=f"{kind.__name__} takes a rule and a sentence"):
            kind(*wrong)

    def test_a_refusal_must_be_writable_as_json(self) -> None:
        """Otherwise its client would get no answer, and a process could not record it."""
        refused = Rejected("no", "half \ud800 of a pair, and a whole \U0001f600")
        assert str(refused) == "half ? of a pair, and a whole \U0001f600"
        assert str(pickle.loads(pickle.dumps(refused))) == str(refused)


class TestProcesses:
    """What would park a process, a test finds."""

    def test_a_command_that_would_be_read_differently_is_reported(self) -> None:
        told = r"Spill\.by does not come back .* a tuple became a list"
        with pytest.raises(ValueError, match=told):
            given(Mopping).when(Poured(cup="a"))
        with pytest.raises(ValueError, match=told):
            Story(Cups, Mopping).send(Pour(cup="a", how="well"))

    def test_an_integration_event_that_would_be_read_differently_is_reported(self) -> None:
        told = r"Mopped\.by does not come back .* a tuple became a list"
        with pytest.raises(ValueError, match=told):
            given(Telling).when(Poured(cup="a"))
        with pytest.raises(ValueError, match=told):
            Story(Cups, Telling).send(Pour(cup="a", how="well"))

    def test_an_event_with_another_key_is_refused(self) -> None:
        with pytest.raises(LookupError, match=r"Spilt is told to the process 'b', and .* to 'a'"):
            given(Mopping, Spilt(cup="a")).when(Spilt(cup="b"))


class TestViews:
    def test_rows_are_compared_in_any_order(self) -> None:
        both = given(StockLevels, TWO).when(StockReceived(sku="cake", quantity=1), ONE_RESERVED)
        assert both.rows["tea"].available == 1
        cake = both.rows["cake"]
        both.then(cake, row(2, 1))
        both.then(row(2, 1), cake)

    def test_a_different_or_missing_row_fails(self) -> None:
        tea = given(StockLevels, TWO)
        for wrong in ([row(2, 1)], [], [row(2, 0), row(2, 0)]):
            with pytest.raises(AssertionError, match="available=2"):
                tea.then(*wrong)
        with pytest.raises(AssertionError):
            given(StockLevels).then(row(2, 0))

    def test_nothing(self) -> None:
        given(StockLevels).then_nothing()
        with pytest.raises(AssertionError):
            given(StockLevels, TWO).then_nothing()

    def test_what_was_given_is_not_changed(self) -> None:
        tea = given(StockLevels, TWO)
        tea.when(ONE_RESERVED)
        tea.then(row(2, 0))


class TestUpcasters:
    def test_upcasters_read_on_what_others_return(self) -> None:
        read = given(in_cents, lower).when({"sku": "TEA", "price": 4.5})
        read.then(Priced(sku="tea", cents=450))
        given(lower).when({"sku": "TEA", "cents": 450}).then(Priced(sku="tea", cents=450))

    def test_an_upcaster_may_return_several_events_or_none(self) -> None:
        read = given(several, lower).when({"skus": ["A", "B"], "cents": 1})
        read.then(Priced(sku="a", cents=1), Priced(sku="b", cents=1))
        given(nothing).when({}).then_nothing()

    def test_a_different_result_fails(self) -> None:
        read = given(lower).when({"sku": "TEA", "cents": 450})
        with pytest.raises(AssertionError, match="sku='tea'"):
            read.then(Priced(sku="TEA", cents=450))
        with pytest.raises(AssertionError, match="are not"):
            read.then_nothing()
        with pytest.raises(AssertionError, match="are not"):
            given(nothing).when({}).then(Priced(sku="tea", cents=450))
        with pytest.raises(AssertionError, match="read as Priced, not StockReceived"):
            read.then(TWO)

    def test_a_chain_that_ends_too_early_fails(self) -> None:
        with pytest.raises(AssertionError, match="brought to version 2, and is of version 3"):
            given(in_cents).when({"sku": "tea", "price": 4.5}).then(Priced(sku="tea", cents=450))

    def test_the_given_record_is_not_changed(self) -> None:
        record = {"sku": "TEA", "price": 4.5}
        given(in_cents, lower).when(record)
        assert record == {"sku": "TEA", "price": 4.5}

    def test_two_of_one_version_are_refused(self) -> None:
        with pytest.raises(DomainError, match="same version"):
            given(lower, upcaster("Priced", from_version=2)(lambda data: data))


@pytest.mark.parametrize("what", [Priced, View, "StockLevels", TWO, None, int])
def test_given_refuses_what_has_no_past(what: Any) -> None:
    with pytest.raises((TypeError, DomainError)):
        given(what)


def test_given_an_aggregate_works_as_before() -> None:
    given(StockItem, TWO, ONE_RESERVED)
