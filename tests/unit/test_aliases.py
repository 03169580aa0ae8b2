"""Aliases are for clients: the log, parameters and lists know fields by their own names."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from actors.local import LocalRuntime
from api.openapi.document import openapi
from deploy.authoring.counterfactual.drawn import DRAWN, without_drawn
from eventstore.memory import MemoryLog
from projections.memory.replica import Replica
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from rayfold import (
    NOW,
    Aggregate,
    Command,
    Event,
    IntegrationEvent,
    Message,
    Now,
    PageQuery,
    Personal,
    Query,
    Registry,
    Route,
    View,
    on,
)

TAKEN = ConfigDict(alias_generator=to_camel)
ANSWERED = ConfigDict(alias_generator=to_camel, serialize_by_alias=True)


class State(Message):
    pass


def domain_of(config: ConfigDict) -> Registry:
    """Guests, each with a favourite room; all of it in camel case."""

    class Line(Message):
        model_config = config
        unit_price: int = 0

    class Note(Command, name="note-guest", creates=True):
        model_config = config
        guest_id: str
        name: Personal[str] = ""
        room_kind: str = ""
        the_lines: tuple[Line, ...] = ()
        noted_at: Now = NOW

    class Noted(Event, name="GuestNoted"):
        model_config = config
        guest_id: str
        name: Personal[str] = ""
        room_kind: str = ""
        the_lines: tuple[Line, ...] = ()

    class Guest(
        Aggregate[State, Note, Noted], category="guest", id_field="guest_id", initial=State()
    ):
        @staticmethod
        def decide(state: State, command: Note) -> list[Noted]:
            return [Noted(**command.model_dump(exclude={"noted_at"}))]

        @staticmethod
        def evolve(state: State, event: Noted) -> State:
            return state

    class Guests(View, name="guests", key="guest_id", indexes=("room_kind",), stores=("memory",)):
        model_config = config
        guest_id: str
        room_kind: str = ""
        the_lines: tuple[Line, ...] = ()

        @staticmethod
        @on(Noted)
        def noted(row: Guests, event: Noted) -> Guests:
            return row.replace(room_kind=event.room_kind, the_lines=event.the_lines)

    class GetGuest(Query, name="get-guest", view=Guests):
        model_config = config
        guest_id: str

    class ListGuests(PageQuery, name="list-guests", view=Guests):
        model_config = config
        room_kind: str | None = None

    module = ModuleType("hotel")
    for member in (Guest, Guests, GetGuest, ListGuests):
        member.__module__ = "hotel"
        setattr(module, member.__name__, member)
    module.ROUTES = [  # type: ignore[attr-defined]
        Route("POST", "/guests/{guest_id}", Note),
        Route("GET", "/guests/{guest_id}", GetGuest),
        Route("GET", "/guests", ListGuests),
    ]
    return Registry([module])


@pytest.fixture(params=[TAKEN, ANSWERED], ids=["taken", "answered"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return domain_of(request.param)


GUEST: dict[str, Any] = {
    "guestId": "ada",
    "name": "Ada",
    "roomKind": "suite",
    "theLines": [{"unitPrice": 7}],
}
STORED = {"guest_id": "ada", "room_kind": "suite", "the_lines": [{"unit_price": 7}]}


def test_no_field_is_lost_besides_personal_data(registry: Registry) -> None:
    for known in (registry.commands["note-guest"], registry.events["GuestNoted"]):
        message = known.model(**GUEST)
        data = json.loads(known.encode(message))
        assert data.pop("name")["$personal"]["value"] == "Ada"
        data.pop("noted_at", None)
        assert data == STORED
    encoded = registry.events["GuestNoted"].encode(message)
    assert registry.decode("GuestNoted", encoded, 1, "guest-ada", 0) == [message]


def test_an_event_written_under_aliases_is_read(registry: Registry) -> None:
    [event] = registry.decode("GuestNoted", json.dumps(GUEST).encode(), 1, "guest-ada", 0)
    assert event == registry.events["GuestNoted"].model(**GUEST)


def test_the_schema_names_fields_as_in_requests_and_answers(registry: Registry) -> None:
    document = openapi(registry)
    post = document["paths"]["/guests/{guest_id}"]["post"]
    assert [each["name"] for each in post["parameters"] if each.get("in") == "path"] == ["guest_id"]
    schemas = document["components"]["schemas"]
    assert set(schemas["NoteBody"]["properties"]) == {"name", "room_kind", "the_lines"}
    listed = document["paths"]["/guests"]["get"]["parameters"]
    assert "room_kind" in [each.get("name") for each in listed]
    row = registry.views["guests"].model(guest_id="ada")
    assert set(schemas["Guests"]["properties"]) == {*json.loads(row.model_dump_json()), "revision"}


async def test_lists_of_rows_that_are_answered_by_alias_are_verified(registry: Registry) -> None:
    log = MemoryLog()
    runtime = LocalRuntime(registry, log)
    for guest, kind in (("ada", "suite"), ("bob", "single")):
        note = registry.commands["note-guest"].model(guest_id=guest, room_kind=kind)
        await runtime.send(note)
    replica = Replica(registry, ["guests"], log)
    task = asyncio.create_task(replica.run())
    await asyncio.wait_for(replica.caught_up.wait(), 60)
    end = await log.end_position(registry.prefixes)
    table = (await fold_afresh(registry, log, end))["guests"]
    asked = sample(table)
    found = replica.snapshot("guests", asked)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert any(each.filters for each in asked)
    assert compare_store("memory", table, asked, found, end) == []


def test_a_value_from_a_factory_is_known_by_its_name_on_the_log() -> None:
    class Drew(Event, name="Drew"):
        ticket: UUID = Field(default_factory=uuid4, serialization_alias="number")

    drew = Drew()
    data = json.loads(Drew.__rayfold__.encode(drew))
    assert without_drawn(drew, data, data) == {"ticket": DRAWN}


def test_a_model_that_is_read_by_alias_alone_is_refused_on_the_log() -> None:
    class Foreign(BaseModel):
        model_config = ANSWERED
        unit_price: int = 0

    class Sold(Event, name="Sold"):
        item: Foreign

    [mistake] = Sold.__rayfold__.mistakes()
    assert "validate_by_name=True" in mistake


def test_a_message_that_is_read_by_alias_alone_is_refused() -> None:
    class Sold(Event, name="Sold"):
        model_config = ConfigDict(**ANSWERED, validate_by_name=False, validate_by_alias=True)
        unit_price: int

    [mistake] = Sold.__rayfold__.mistakes()
    assert "validate_by_name=False" in mistake


def test_integration_events_use_the_names_of_their_receivers() -> None:
    class Told(IntegrationEvent, name="told"):
        model_config = ANSWERED
        guest_id: str

    assert Told.__rayfold__.encode(Told(guest_id="ada")) == b'{"guestId":"ada"}'

    class ToldOfSomebody(IntegrationEvent, name="told-of", subject="guest_id"):
        model_config = ANSWERED
        guest_id: str
        name: Personal[str]

    [mistake] = ToldOfSomebody.__rayfold__.mistakes()
    assert "leave serialize_by_alias out" in mistake
