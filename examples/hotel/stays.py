"""Hotels, their nights, and stays: small aggregates that decisions change together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Never

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, Rejected

HotelId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
StayId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]


class OpenHotel(Command, name="open-hotel", creates=True):
    """Open a hotel with this number of rooms."""

    hotel_id: HotelId
    rooms: Annotated[int, Field(ge=1, le=10_000)]


class HotelOpened(Event, name="HotelOpened"):
    """A hotel was opened and can be booked."""

    hotel_id: str
    rooms: int


class HotelState(Message):
    """What deciding on a stay needs to know of its hotel."""

    rooms: int = 0


class Hotel(
    Aggregate[HotelState, OpenHotel, HotelOpened],
    category="hotel",
    id_field="hotel_id",
    initial=HotelState(),
):
    """A hotel and its number of rooms. Which rooms are taken is in the streams of its nights."""

    @staticmethod
    def decide(state: HotelState, command: OpenHotel) -> Iterable[HotelOpened]:
        """See `Aggregate.decide`."""
        if state.rooms:
            raise Rejected("hotel-exists", f"hotel {command.hotel_id!r} exists already")
        return [HotelOpened(**command.model_dump())]

    @staticmethod
    def evolve(state: HotelState, event: HotelOpened) -> HotelState:
        """See `Aggregate.evolve`."""
        return HotelState(rooms=event.rooms)


class RoomTaken(Event, name="RoomTaken"):
    """A stay took a room in this night; `free` is the number of rooms left."""

    night_id: str
    stay_id: str
    free: int


class RoomFreed(Event, name="RoomFreed"):
    """A stay gave back its room in this night; `free` is the number of rooms left."""

    night_id: str
    stay_id: str
    free: int


class NightState(Message):
    """What deciding on a stay needs to know of a night."""

    taken: int = 0


class Night(
    Aggregate[NightState, Never, RoomTaken | RoomFreed],
    category="night",
    id_field="night_id",
    initial=NightState(),
):
    """A night of a hotel: `sea-view:2026-12-24`."""

    @staticmethod
    def evolve(state: NightState, event: RoomTaken | RoomFreed) -> NightState:
        """See `Aggregate.evolve`."""
        return NightState(taken=state.taken + (1 if isinstance(event, RoomTaken) else -1))


class StayBooked(Event, name="StayBooked"):
    """A room was booked for each night from `arrival` until the day before `departure`."""

    stay_id: str
    hotel_id: str
    arrival: date
    departure: date


class StayCancelled(Event, name="StayCancelled"):
    """The stay was cancelled."""

    stay_id: str


class StayState(Message):
    """What deciding on a stay needs to know of itself."""

    hotel_id: str = ""
    arrival: date | None = None
    departure: date | None = None
    cancelled: bool = False


class Stay(
    Aggregate[StayState, Never, StayBooked | StayCancelled],
    category="stay",
    id_field="stay_id",
    initial=StayState(),
):
    """A stay, booked at most once, and cancelled for good."""

    @staticmethod
    def evolve(state: StayState, event: StayBooked | StayCancelled) -> StayState:
        """See `Aggregate.evolve`."""
        if isinstance(event, StayCancelled):
            return state.replace(cancelled=True)
        return StayState(**event.model_dump(exclude={"stay_id"}))
