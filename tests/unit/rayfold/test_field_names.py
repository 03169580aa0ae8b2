"""A field may have any name: it does not collide with names of ours."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from actors.local import LocalRuntime
from eventstore.records import recorded
from projections.folding import Folding
from projections.memory.table import Table
from projections.postgres.row_codec import RowCodec
from rayfold import Aggregate, Command, Event, Message, PageQuery, Query, Registry, View, on
from tests.generated.field_types import Address
from tests.generated.names import NAMES, PAGE_OWN

pytestmark = pytest.mark.filterwarnings("ignore:Field name .* shadows")


def domain() -> tuple[Registry, Any]:
    """Every message of it has a field of each name, with the name itself as its value."""
    fields: Any = {"id": (str, ...), **{name: (str, name) for name in NAMES}}
    put = create_model("Put", __base__=Command, __cls_kwargs__={"name": "put"}, **fields)
    event = create_model("WasPut", __base__=Event, __cls_kwargs__={"name": "WasPut"}, **fields)
    state = create_model("State", __base__=Message, **dict.fromkeys(NAMES, (str, "")))

    class Thing(
        Aggregate[state, put, event],  # type: ignore[valid-type]
        category="thing",
        id_field="id",
        initial=state(),
    ):
        @staticmethod
        def decide(state: Any, command: Any) -> Any:
            return [event(**command.model_dump())]

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            return Message.replace(state, **event.model_dump(exclude={"id"}))

    @staticmethod  # type: ignore[misc]
    @on(event)
    def was_put(row: Any, event: Any) -> Any:
        return Message.replace(row, **event.model_dump())

    things = create_model(
        "Things",
        __base__=View,
        __cls_kwargs__={"name": "things", "key": "id", "indexes": tuple(NAMES)},
        id=(str, ...),
        **dict.fromkeys(NAMES, (str, "")),
    )
    things = type(
        "Things",
        (things,),
        {"was_put": was_put, "__module__": "made_up"},
        name="things",
        key="id",
        indexes=tuple(NAMES),
    )
    get = create_model(
        "Get", __base__=Query, __cls_kwargs__={"name": "get", "view": things}, id=(str, ...)
    )
    find = create_model(
        "Find",
        __base__=PageQuery,
        __cls_kwargs__={"name": "find", "view": things},
        **dict.fromkeys(sorted({*NAMES} - {*PAGE_OWN}), (str | None, None)),
    )
    module = ModuleType("made_up")
    vars(module).update(Thing=Thing, things=things, get=get, find=find)
    for member in (Thing, get, find):
        member.__module__ = "made_up"
    return Registry([module]), put


async def test_a_field_of_any_name_goes_through_log_and_views() -> None:
    registry, put = domain()
    runtime = LocalRuntime(registry)
    await runtime.send(put(id="1"))
    [raw] = [raw async for raw in runtime.log.read_stream("thing-1")]
    assert raw.event_type == "WasPut"
    assert json.loads(raw.data) == {"id": "1", **{name: name for name in NAMES}}
    view = registry.views["things"]
    table = Table(view)
    folding = Folding(registry, [view])
    for step in folding.steps(raw):
        assert table.fold(step, folding)
    assert json.loads(table.rows["1"].json()) == {
        "id": "1",
        **{name: name for name in NAMES},
        "revision": 0,
    }
    [event] = recorded(registry, raw)
    assert event.event.model_dump() == {"id": "1", **{name: name for name in NAMES}}
    versioned = table.rows["1"].entry
    codec = RowCodec(view)
    key, *values, revision, position, started = codec.encode("1", versioned)
    columns = dict(zip([column.field for column in codec.columns], values, strict=True))
    record = {
        **columns,
        "_key": key,
        "_revision": revision,
        "_position": position,
        "_started": started,
    }
    assert codec.decode(record) == versioned


async def test_a_snapshot_and_a_query_have_fields_of_any_name() -> None:
    registry, put = domain()
    find = registry.queries["find"]
    query = find.model(name="name", key="key")
    assert find.filters(query) == {"name": "name", "key": "key"}
    assert put(id="1").model_dump() == {"id": "1", **{name: name for name in NAMES}}


class Taken(Event, name="Taken"):
    id: str
    replace: str
    name: str


class TakenAgain(Taken, name="TakenAgain"):
    version: int = 1


class Given(Event, name="Given"):
    id: str
    replace: str = "by default"


class GivenAgain(Given, name="GivenAgain"):
    pass


def test_a_field_without_a_default_does_not_get_one() -> None:
    for model in (Taken, TakenAgain):
        assert model.model_fields["replace"].is_required()
        with pytest.raises(ValidationError):
            model.model_validate_json('{"id": "1", "name": "x"}')
    assert TakenAgain(id="1", replace="2", name="3").replace == "2"


def test_a_field_keeps_its_own_default() -> None:
    for model in (Given, GivenAgain):
        assert model(id="1").replace == "by default"
        assert Message.replace(model(id="1"), replace="x").replace == "x"


def test_other_messages_can_replace() -> None:
    assert Address(street="a").replace(street="b") == Address(street="b")
