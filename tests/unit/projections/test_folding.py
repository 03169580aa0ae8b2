"""Which events concern which rows, when something of a view is parked."""

from __future__ import annotations

from eventstore.records import RawRecord
from projections.folding import Folding
from projections.partitions import AlreadyProjected
from rayfold import Aggregate, Command, Event, Message, Registry, View, on
from rayfold.folds import starts


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


def test_a_stream_that_is_parked_for_one_view_goes_on_for_the_others() -> None:
    registry = Registry.load("domain")
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Whole.__rayfold__, Growth.__rayfold__])
    assert folding.steps(raw("ThingBegan", b"no JSON", 0)) == []
    assert [parked.view for parked in folding.parked] == ["whole"]
    steps = folding.steps(raw("ThingGrew", b'{"thing":"a"}', 1))
    assert [step.view for step in steps] == [Growth.__rayfold__]


def test_what_a_table_covers_is_not_read_again_however_it_would_be_read_now() -> None:
    registry = Registry.load("domain")
    registry.events.update({"ThingBegan": Began.__rayfold__, "ThingGrew": Grew.__rayfold__})
    folding = Folding(registry, [Whole.__rayfold__, Growth.__rayfold__])
    folding.cover("whole", AlreadyProjected([2]))
    assert folding.steps(raw("Forgotten", b"{}", 1)) == []
    assert [parked.view for parked in folding.parked] == ["growth"]
    [step] = folding.steps(raw("ThingBegan", b'{"thing":"a"}', 2))
    assert step.view is Whole.__rayfold__
