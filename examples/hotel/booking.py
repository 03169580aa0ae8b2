"""Booking and cancelling: a decision over a hotel, a stay, and as many nights as that has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import TypedDict

from examples.hotel.stays import (
    Hotel,
    HotelId,
    HotelState,
    Night,
    NightState,
    RoomFreed,
    RoomTaken,
    Stay,
    StayBooked,
    StayCancelled,
    StayId,
    StayState,
)
from rayfold import Command, Decision, Event, NotFound, ReadMany, Rejected


class BookStay(Command, name="book-stay"):
    """Book a room for each night from `arrival` until the day before `departure`."""

    hotel_id: HotelId
    stay_id: StayId
    arrival: date
    departure: date


class CancelStay(Command, name="cancel-stay"):
    """Cancel a stay. Its days are required, as they determine which nights are read."""

    hotel_id: HotelId
    stay_id: StayId
    arrival: date
    departure: date


def nights(command: BookStay | CancelStay) -> Iterator[str]:
    """Yield the ids of a stay's nights: all of its days but the last."""
    # One by one: a client may ask for a stay of 9,998 years, which is refused at its 17th night.
    for n in range((command.departure - command.arrival).days):
        yield f"{command.hotel_id}:{command.arrival + timedelta(days=n)}"


class Concerned(TypedDict):
    """What booking and cancelling read."""

    hotel: HotelState
    stay: StayState
    nights: dict[str, NightState]


class Booking(
    Decision[BookStay | CancelStay],
    reads={"hotel": Hotel, "stay": Stay, "nights": ReadMany(Night, by=nights)},
):
    """A stay is booked for all of its nights, or not at all.

    The hotel leads: bookings of one hotel are decided one after the other, for any nights.
    """

    @staticmethod
    def decide(states: Concerned, command: BookStay | CancelStay) -> Iterable[Event]:
        """See `Decision.decide`."""
        if not states["hotel"].rooms:
            raise NotFound("unknown-hotel", f"there is no hotel {command.hotel_id!r}")
        return _booked(states, command) if isinstance(command, BookStay) else _off(states, command)


def _booked(states: Concerned, command: BookStay) -> Iterable[Event]:
    if states["stay"].hotel_id:
        raise Rejected("stay-exists", f"stay {command.stay_id!r} exists already")
    if not states["nights"]:
        raise Rejected("no-night", "a stay must have at least one night")
    for night_id, night in states["nights"].items():
        free = states["hotel"].rooms - night.taken
        if not free:
            raise Rejected("no-room", f"no room is free in {night_id!r}")
        yield RoomTaken(night_id=night_id, stay_id=command.stay_id, free=free - 1)
    yield StayBooked(**command.model_dump())


def _off(states: Concerned, command: CancelStay) -> Iterable[Event]:
    stay = states["stay"]
    if stay.cancelled:
        raise Rejected("stay-cancelled", f"stay {command.stay_id!r} is cancelled already")
    known = (stay.hotel_id, stay.arrival, stay.departure)
    if known != (command.hotel_id, command.arrival, command.departure):
        raise NotFound("unknown-stay", f"there is no stay {command.stay_id!r} on these days")
    for night_id, night in states["nights"].items():
        free = states["hotel"].rooms - night.taken
        yield RoomFreed(night_id=night_id, stay_id=command.stay_id, free=free + 1)
    yield StayCancelled(stay_id=command.stay_id)
