"""What guests see of nights and stays, and where it is on the web."""

from __future__ import annotations

from datetime import date

from examples.hotel.booking import BookStay, CancelStay
from examples.hotel.stays import (
    OpenHotel,
    RoomFreed,
    RoomTaken,
    StayBooked,
    StayCancelled,
    StayId,
)
from rayfold import Query, Route, View, on, starts


class Nights(View, name="nights", key="night_id"):
    """How many rooms are free in a night; a night without any booking so far has no row."""

    night_id: str
    free: int

    @staticmethod
    @starts(RoomTaken)
    def taken(event: RoomTaken) -> Nights:
        return Nights(night_id=event.night_id, free=event.free)

    @staticmethod
    @starts(RoomFreed)
    def freed(event: RoomFreed) -> Nights:
        return Nights(night_id=event.night_id, free=event.free)


class Stays(View, name="stays", key="stay_id"):
    """A stay, until it is cancelled."""

    stay_id: str
    hotel_id: str
    arrival: date
    departure: date

    @staticmethod
    @starts(StayBooked)
    def booked(event: StayBooked) -> Stays:
        return Stays(**event.model_dump())

    @staticmethod
    @on(StayCancelled)
    def cancelled(stay: Stays, event: StayCancelled) -> None:
        return None


class GetNight(Query, name="get-night", view=Nights):
    """One night of a hotel."""

    night_id: str


class GetStay(Query, name="get-stay", view=Stays):
    """One stay."""

    stay_id: StayId


ROUTES = [
    Route("POST", "/hotels/{hotel_id}", OpenHotel),
    Route("POST", "/hotels/{hotel_id}/stays/{stay_id}", BookStay),
    Route("POST", "/hotels/{hotel_id}/stays/{stay_id}/cancel", CancelStay),
    Route("GET", "/nights/{night_id}", GetNight),
    Route("GET", "/stays/{stay_id}", GetStay),
]
