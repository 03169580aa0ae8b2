"""The rules of a hotel, without any infrastructure."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import date, timedelta

import pytest

from actors.errors import InvalidCommand
from actors.local import LocalRuntime
from examples.hotel.booking import Booking, BookStay, CancelStay, nights
from examples.hotel.stays import (
    Hotel,
    HotelOpened,
    OpenHotel,
    RoomFreed,
    RoomTaken,
    StayBooked,
    StayCancelled,
)
from rayfold import Receipt, Registry, Rejected
from rayfold.decision import MAX_READS
from rayfold.testing import Story, given

OPENED = HotelOpened(hotel_id="sea", rooms=1)
FIRST = date(2026, 12, 24)
DAYS = {"hotel_id": "sea", "arrival": FIRST, "departure": FIRST + timedelta(days=2)}
TAKEN = [
    RoomTaken(night_id="sea:2026-12-24", stay_id="ada", free=0),
    RoomTaken(night_id="sea:2026-12-25", stay_id="ada", free=0),
    StayBooked(stay_id="ada", **DAYS),
]


def test_a_stay_takes_a_room_in_each_of_its_nights() -> None:
    after = given(Booking, OPENED).when(BookStay(stay_id="ada", **DAYS)).then(*TAKEN)
    assert {night: state.taken for night, state in after["nights"].items()} == {
        "sea:2026-12-24": 1,
        "sea:2026-12-25": 1,
    }
    assert after["hotel"].rooms == 1


def test_a_night_without_a_room_refuses_the_whole_stay() -> None:
    eve = BookStay(hotel_id="sea", stay_id="eve", arrival=FIRST, departure=date(2026, 12, 27))
    later = {"hotel_id": "sea", "arrival": date(2026, 12, 26), "departure": date(2026, 12, 27)}
    given(Booking, OPENED, *TAKEN).when(eve).then_rejected("no-room")
    given(Booking, OPENED, *TAKEN).when(BookStay(stay_id="eve", **later)).then(
        RoomTaken(night_id="sea:2026-12-26", stay_id="eve", free=0),
        StayBooked(stay_id="eve", **later),
    )


def test_a_stay_without_a_night_reads_none() -> None:
    none = BookStay(hotel_id="sea", stay_id="ada", arrival=FIRST, departure=FIRST)
    given(Booking, OPENED).when(none).then_rejected("no-night")


def test_a_cancelled_stay_frees_its_nights() -> None:
    cancelled = (
        RoomFreed(night_id="sea:2026-12-24", stay_id="ada", free=1),
        RoomFreed(night_id="sea:2026-12-25", stay_id="ada", free=1),
        StayCancelled(stay_id="ada"),
    )
    past = given(Booking, OPENED, *TAKEN)
    past.when(CancelStay(stay_id="ada", **DAYS)).then(*cancelled)
    past.when(
        CancelStay(hotel_id="sea", stay_id="ada", arrival=FIRST, departure=date(2026, 12, 25))
    ).then_not_found()
    given(Booking, OPENED, *TAKEN, *cancelled).when(
        CancelStay(stay_id="ada", **DAYS)
    ).then_rejected("stay-cancelled")


def test_a_test_story_reads_as_many_nights_as_the_command_says() -> None:
    story = Story(Hotel, Booking)
    story.send(OpenHotel(hotel_id="sea", rooms=1))
    assert story.send(BookStay(stay_id="ada", **DAYS)) == TAKEN
    with pytest.raises(Rejected, match="no room is free in 'sea:2026-12-24'"):
        story.send(BookStay(stay_id="eve", **DAYS))


async def test_no_night_has_more_guests_than_rooms_however_many_come_at_once() -> None:
    runtime = LocalRuntime(Registry.load("examples.hotel"))
    await runtime.send(OpenHotel(hotel_id="sea", rooms=3))
    chance = random.Random(7)
    stays = []
    for n in range(200):
        arrival = FIRST + timedelta(days=chance.randrange(20))
        departure = arrival + timedelta(days=chance.randint(1, 5))
        stays.append(
            BookStay(hotel_id="sea", stay_id=f"s-{n}", arrival=arrival, departure=departure)
        )
    outcomes = await asyncio.gather(*map(runtime.send, stays), return_exceptions=True)
    booked = [stay for stay, each in zip(stays, outcomes, strict=True) if isinstance(each, Receipt)]
    assert {each.rule for each in outcomes if isinstance(each, Rejected)} == {"no-room"}
    guests = Counter(night for stay in booked for night in nights(stay))
    assert max(guests.values()) == 3
    for stay in stays:
        if stay not in booked:
            assert any(guests[night] == 3 for night in nights(stay))
    assert runtime.host.status()["conflicts"] == 0


async def test_a_stay_of_more_nights_than_one_decision_reads_is_refused() -> None:
    runtime = LocalRuntime(Registry.load("examples.hotel"))
    await runtime.send(OpenHotel(hotel_id="sea", rooms=1))
    longest = MAX_READS - 2  # beside the hotel and the stay
    for days, stay_id in ((longest, "long"), (longest + 1, "too-long")):
        stay = BookStay(
            hotel_id="sea",
            stay_id=stay_id,
            arrival=FIRST,
            departure=FIRST + timedelta(days=days),
        )
        if days == longest:
            assert len((await runtime.send(stay)).revisions) == MAX_READS
        else:
            with pytest.raises(InvalidCommand, match=f"more than {MAX_READS} aggregates"):
                await runtime.send(stay)
