"""Which events concern which rows, when something of a view is parked."""

from __future__ import annotations

import linecache
import re
import sys
from functools import singledispatch
from types import ModuleType
from typing import cast

import pytest
from pydantic import ValidationError

from eventstore.records import RawRecord
from projections.folding import Folding
from projections.parked_pages import in_order
from projections.partitions import AlreadyProjected
from projections.poison import Discarded, Parked
from rayfold import Aggregate, Command, Event, Message, Registry, View, on, upcaster
from rayfold.folds import starts
from rayfold.place_of_error import place_of


class Began(Event, name="ThingBegan"):
    thing: str


class Grew(Event, name="ThingGrew"):
    thing: str


class Grow(Command, name="grow"):
    thing: str


class Nothing(Message):
    pass


class Thing(
    Aggregate[Nothing, Grow, Began | Grew], category="thing", id_field="thing", initial=Nothing()
):
    pass


class Whole(View, name="whole", key="thing"):
    thing: str

    @staticmethod
    @starts(Began)
    def began(event: Began) -> Whole:
        return Whole(thing=event.thing)

    @staticmethod
    @on(Grew)
    def grew(row: Whole, event: Grew) -> Whole:
        return row


class Growth(View, name="growth", key="thing"):
    thing: str
    times: int = 0

    @staticmethod
    @on(Grew)
    def grew(row: Growth, event: Grew) -> Growth:
        return row.replace(times=row.times + 1)


def raw(event_type: str, data: bytes, revision: int) -> RawRecord:
    return RawRecord(event_type, data, b"{}", "thing-a", revision, revision + 1, 0)


def test_a_stream_parked_for_one_view_is_still_folded_for_the_others() -> None:
    registry = Registry.load("domain")
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Whole.__rayfold__, Growth.__rayfold__])
    assert folding.steps(raw("ThingBegan", b"no JSON", 0)) == []
    assert [parked.view for parked in folding.parked] == ["whole"]
    steps = folding.steps(raw("ThingGrew", b'{"thing":"a"}', 1))
    assert [step.view for step in steps] == [Growth.__rayfold__]


def test_events_covered_by_a_table_are_not_decoded_again() -> None:
    registry = Registry.load("domain")
    registry.aggregates["thing"] = Thing
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Whole.__rayfold__, Growth.__rayfold__])
    folding.cover("whole", AlreadyProjected([2]))
    assert folding.steps(raw("Forgotten", b"{}", 1)) == []
    assert [parked.view for parked in folding.parked] == ["growth"]
    [step] = folding.steps(raw("ThingBegan", b'{"thing":"a"}', 2))
    assert step.view is Whole.__rayfold__


def test_parked_events_are_listed_in_order() -> None:
    folding = Folding(Registry(()), [])
    kept = [
        Parked(view, key, f"thing-{at}", 0, at, "no")
        for view, key, at in [
            ("growth", "b", 7),
            ("growth", "a", 3),
            ("whole", "a", 3),
            ("growth", "", 5),
        ]
    ]
    for number, each in enumerate(kept, 1):
        folding.park(each)
        assert folding.listed() == in_order(kept[:number])
    assert folding.listed(streams=False) == in_order(kept[:3])
    stopped = Parked("strict", "a", "thing-4", 0, 4, "no")
    folding.stopped["strict"] = stopped
    assert folding.listed() == in_order([*kept, stopped])
    del folding.stopped["strict"]
    folding.release(kept[3])
    assert folding.listed() == folding.listed(streams=False) == in_order(kept[:3])
    folding.adopt("growth", Folding(Registry(()), []))
    assert folding.listed() == [kept[2]]


def _sku(event: Grew) -> str:
    sys.exit("of a script")


class Exits(View, name="exits", key="thing"):
    thing: str

    @staticmethod
    @on(Grew)
    def grew(row: Exits, event: Grew) -> Exits:
        sys.exit("of a script")

    @staticmethod
    @starts(Began, key=_sku)
    def began(event: Began) -> Exits:
        return Exits(thing=event.thing)


def test_a_fold_that_exits_parks_its_row_and_does_not_end_the_process() -> None:
    """Otherwise all views of that process would stop, again and again."""
    registry = Registry(())
    registry.aggregates = {"thing": Thing}
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Exits.__rayfold__])
    assert folding.steps(raw("ThingBegan", b'{"thing":"b"}', 0)) == []
    [step] = folding.steps(raw("ThingGrew", b'{"thing":"a"}', 1)._replace(stream="thing-b"))
    assert folding.fold(step, None) is None
    [stream, row] = folding.parked
    assert (stream.key, row.key) == ("", "a")
    for parked in (stream, row):
        told = re.fullmatch(
            r"SystemExit: of a script \(test_folding\.py, line (\d+)\)", parked.error
        )
        assert told, parked.error
        assert linecache.getline(__file__, int(told[1])).strip() == 'sys.exit("of a script")'


class Behind(View, name="behind", key="thing"):
    """Its fold is behind a decorator of Python's."""

    thing: str
    times: int = 0

    @staticmethod
    @starts(Grew)
    @singledispatch
    def grew(event: Grew) -> Behind:
        return Behind(thing=event.thing, times=cast(int, "x" * 500))


def test_the_line_in_an_error_is_the_authors_and_fits_in_a_status() -> None:
    registry = Registry(())
    registry.aggregates = {"thing": Thing}
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Behind.__rayfold__])
    [step] = folding.steps(raw("ThingGrew", b'{"thing":"a"}', 1))
    folding.fold(step, None)
    [parked] = folding.parked
    [told] = folding.told_of_parked()["poison"]
    assert len(told["reason"]) <= 200
    for said in (parked.error, told["reason"]):
        place = re.search(r" \(test_folding\.py, line (\d+)\)$", said)
        assert place, said
        assert "cast(int" in linecache.getline(__file__, int(place[1]))
    with pytest.raises(ValidationError) as caught:  # we make a value ourselves: no line of theirs
        Grew.model_validate({})
    assert place_of(caught.value) == ""


class Stone(Aggregate[Nothing, Grow, Began], category="stone", id_field="thing", initial=Nothing()):
    """Has none of the events of `Growth`."""


def test_an_event_that_cannot_be_read_concerns_the_views_of_its_aggregate() -> None:
    """Views of other aggregates do not read that stream."""
    registry = Registry(())
    registry.aggregates = {"thing": Thing, "stone": Stone}
    whole, growth = Whole.__rayfold__, Growth.__rayfold__
    assert registry.prefixes_of([growth]) == ["thing-"]
    assert registry.prefixes_of([whole]) == ["stone-", "thing-"]
    assert registry.may_be("Unheard", "thing-a", growth.folds)
    assert not registry.may_be("Unheard", "stone-a", growth.folds)  # SQL and competing ask so
    folding = Folding(registry, [whole, growth])
    assert folding.steps(raw("Unheard", b"{}", 0)._replace(stream="stone-a")) == []
    assert {each.view for each in folding.parked} == {"whole"}
    assert folding.steps(raw("Unheard", b"{}", 1)) == []
    assert {(each.view, each.stream) for each in folding.parked} == {
        ("whole", "stone-a"),
        ("whole", "thing-a"),
        ("growth", "thing-a"),
    }


def test_if_an_upcaster_changes_the_type_all_streams_are_read() -> None:
    @upcaster("WasSomethingElse", from_version=1)
    def brought(data: dict[str, object]) -> tuple[str, dict[str, object]]:
        return "ThingGrew", data

    module = ModuleType(__name__)
    vars(module)["brought"] = brought
    registry = Registry([module])
    registry.aggregates = {"thing": Thing, "stone": Stone}
    assert registry.prefixes_of([Growth.__rayfold__]) == ["stone-", "thing-"]


def test_an_event_discarded_earlier_is_left_out_after_a_rebuild() -> None:
    registry = Registry(())
    registry.aggregates = {"thing": Thing}
    registry.events.update({"ThingBegan": Began.__rayfold__})
    whole = Whole.__rayfold__
    folding, fresh = Folding(registry, [whole]), Folding(registry, [whole])
    began = raw("ThingBegan", b'{"thing":"a"}', 0)
    fresh.discarded = frozenset({Discarded("whole", "a", began.stream, 0)})
    assert len(folding.steps(began)) == 1
    folding.adopt("whole", fresh)
    assert folding.steps(began) == []


def test_a_status_reports_the_first_parked_events_without_reading_the_rest() -> None:
    """The status is read twice a second, and a million rows may be parked."""
    folding = Folding(Registry(()), [])
    for at in range(9, 3, -1):
        folding.park(Parked("other", f"o{at}", f"other-{at}", 0, at, "no"))
    fresh = Folding(Registry(()), [])
    for at in range(3):
        fresh.park(Parked("whole", f"w{at}", f"thing-{at}", 0, at, "no"))
    folding.adopt("whole", fresh)
    folding.park(Parked("whole", "", "thing-7", 0, 1, "unreadable"))
    told = folding.told_of_parked()
    assert told["parked"] == 10
    assert [each["event"] for each in told["poison"]] == ["0@thing-0", "0@thing-7", "0@thing-1"]
    told = folding.told_of_parked(streams=False)
    assert told["parked"] == 9
    assert [each["key"] for each in told["poison"]] == ["w0", "w1", "w2"]
    folding.adopt("other", Folding(Registry(()), []))
    folding.adopt("whole", Folding(Registry(()), []))
    assert folding.told_of_parked() == {"parked": 0}
