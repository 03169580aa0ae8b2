"""A row is the same one in memory, at rest, in a peer's copy and in a table of Postgres."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import create_model

from eventstore.records import RawRecord
from projections.folding import Folding
from projections.memory.table import Copied, Table
from projections.postgres.row_codec import RowCodec
from rayfold import Aggregate, Command, Event, Message, Registry, View, on
from tests.generated.field_types import SIMPLE, FieldType, optional, row_types


def domain_of(annotation: Any) -> tuple[Registry, Any]:
    """A domain whose view has a field of that type, and its event."""
    fields: Any = {"id": (str, ...), "content": (annotation, ...)}
    put = create_model("Put", __base__=Command, __cls_kwargs__={"name": "put"}, **fields)
    event = create_model("WasPut", __base__=Event, __cls_kwargs__={"name": "WasPut"}, **fields)

    class State(Message):
        pass

    class Thing(
        Aggregate[State, put, event],  # type: ignore[valid-type]
        category="thing",
        id_field="id",
        initial=State(),
    ):
        @staticmethod
        def decide(state: Any, command: Any) -> Any:
            return [event(id=command.id, content=command.content)]

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            return state

    class Things(View, name="things", key="id"):
        id: str
        content: annotation | None = None  # type: ignore[valid-type]

        @staticmethod
        @on(event)
        def was_put(row: Any, event: Any) -> Any:
            return row.replace(content=event.content)

    module = ModuleType("made_up")
    Thing.__module__ = Things.__module__ = module.__name__
    vars(module).update(Thing=Thing, Things=Things)
    return Registry([module]), event


kinds = [*SIMPLE, *(optional(kind) for kind in SIMPLE)]
generous = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", kinds, ids=lambda kind: str(kind.annotation)[:50])
@generous
@given(data=st.data())
def test_a_row_of_each_kind_is_the_same_everywhere(kind: FieldType, data: st.DataObject) -> None:
    check(kind.annotation, data.draw(kind.values))


@settings(generous, max_examples=150)
@given(data=st.data())
def test_a_row_of_any_depth_is_the_same_everywhere(data: st.DataObject) -> None:
    kind = data.draw(row_types)
    check(kind.annotation, data.draw(kind.values))


def check(annotation: Any, value: Any) -> None:
    registry, event_type = domain_of(annotation)
    view = registry.views["things"]
    event = event_type(id="1", content=value)
    raw = RawRecord("WasPut", event.__rayfold__.encode(event), b"{}", "thing-1", 0, 7, 0)
    table = Table(view)
    folding = Folding(registry, [view])
    [step] = folding.steps(raw)
    table.fold(step, folding)
    row = table.rows["1"]
    folded, document = row.entry, json.loads(row.json())
    assert folded.row.content == event.content

    row.freeze()
    assert row.entry == folded

    copy = Table(view)
    copy.fill(Copied.of(view, [("1", folded)]))
    copy.filled()
    assert copy.rows["1"].entry == folded
    assert json.loads(copy.rows["1"].json()) == document

    codec = RowCodec(view)
    key, *values = codec.encode("1", folded)
    names = [column.field for column in codec.columns]
    record = dict(zip([*names, "_revision", "_position", "_started"], values, strict=True))
    assert codec.decode(record | {"_key": key}) == folded
