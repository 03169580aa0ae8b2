"""One event, many rows: a key that gives several, with what one key promises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayfold import Event, View, on, starts
from rayfold.testing import rows_of


class Shipped(Event, name="Shipped"):
    order: str
    boxes: tuple[str, ...]
    to: str | None = None


class Opened(Event, name="Opened"):
    box: str


def boxes(event: Any) -> Iterable[str]:
    return list(event.boxes)


class Boxes(View, name="boxes", key="box"):
    box: str
    order: str
    opened: int = 0

    @staticmethod
    @starts(Shipped, key=boxes)
    def shipped(event: Shipped, box: str) -> Boxes:
        return Boxes(box=box, order=event.order)

    @staticmethod
    @on(Opened)
    def was_opened(row: Boxes, event: Opened) -> Boxes | None:
        return row.replace(opened=row.opened + 1) if row.opened < 2 else None


class Places(View, name="places", key="place"):
    place: str
    seen: int = 0

    @staticmethod
    @on(Shipped, key=lambda event: {event.to, "anywhere"})
    def shipped(row: Places, event: Shipped) -> Places:
        return row.replace(seen=row.seen + 1)


def test_an_event_begins_a_row_under_each_key() -> None:
    rows = rows_of(Boxes, Shipped(order="1", boxes=("a", "b")), Opened(box="b"))
    assert rows == {"a": Boxes(box="a", order="1"), "b": Boxes(box="b", order="1", opened=1)}


def test_an_event_without_keys_concerns_no_row() -> None:
    assert rows_of(Boxes, Shipped(order="1", boxes=())) == {}


def test_a_key_that_is_none_is_ignored() -> None:
    assert rows_of(Places, Shipped(order="1", boxes=())) == {
        "anywhere": Places(place="anywhere", seen=1)
    }


def test_a_key_that_comes_twice_counts_once() -> None:
    event = Shipped(order="1", boxes=(), to="anywhere")
    assert rows_of(Places, event) == {"anywhere": Places(place="anywhere", seen=1)}
    assert rows_of(Boxes, Shipped(order="1", boxes=("a", "a")), Opened(box="a")) == {
        "a": Boxes(box="a", order="1", opened=1)
    }
