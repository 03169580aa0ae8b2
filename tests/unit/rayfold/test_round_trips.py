"""What an author's message holds is what comes back: from the log, a snapshot, a command's way.

The models are made up by hypothesis, from every kind of field that pydantic can write.
"""

from __future__ import annotations

import asyncio
import warnings
from datetime import date
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Base64Bytes, Base64UrlStr, Secret, SecretBytes, create_model

from actors.host.entity import Entity
from actors.host.snapshots import restore, save
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, recorded
from rayfold import Aggregate, Command, Event, Message, Registry, Upcaster
from rayfold.field_types import mistakes_of_fields
from tests.generated.field_types import HASHABLE, SIMPLE, FieldType, field_types

warnings.filterwarnings("ignore", message=".*shadows an attribute.*")

generous = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


class Content(Message):
    """Whatever a message of an author's holds."""


def domain_of(annotation: Any, version: int = 1) -> tuple[Registry, Any]:
    """A domain whose command, event and state have a field of that type."""
    fields: Any = {"id": (str, ...), "content": (annotation, ...)}
    put = create_model("Put", __base__=Command, __cls_kwargs__={"name": "put"}, **fields)
    event = create_model(
        "WasPut", __base__=Event, __cls_kwargs__={"name": "WasPut", "version": version}, **fields
    )
    state = create_model("State", __base__=Message, content=(annotation | None, None))
    module = ModuleType("made_up")

    class Thing(
        Aggregate[state, put, event],  # type: ignore[valid-type]
        category="thing",
        id_field="id",
        initial=state(),
    ):
        @staticmethod
        def decide(state: Any, command: Any) -> Any:
            return [event(id=command.id, content=command.content)]

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            return state.replace(content=event.content)

    Thing.__module__ = module.__name__
    vars(module).update(thing=Thing, put=put, event=event, state=state)
    if version > 1:
        module.same = Upcaster("WasPut", version - 1, dict)  # type: ignore[attr-defined]
    return Registry([module]), module


@pytest.mark.parametrize("version", [1, 2], ids=["as it is", "through an upcaster"])
@generous
@given(st.data())
def test_an_event_comes_back_from_the_log(version: int, data: st.DataObject) -> None:
    kind = data.draw(field_types)
    registry, made = domain_of(kind.annotation, version=version)
    event = made.event(id="1", content=data.draw(kind.values))
    written = event.__rayfold__.encode(event)
    assert registry.decode("WasPut", written, 1, "thing-1", 0) == [event]


@generous
@given(st.data())
def test_a_command_reaches_its_writer_as_it_was_sent(data: st.DataObject) -> None:
    kind = data.draw(field_types)
    registry, made = domain_of(kind.annotation)
    command = made.put(id="1", content=data.draw(kind.values))

    async def written() -> list[Event]:
        runtime = LocalRuntime(registry)
        await runtime.send(command)
        raws = [raw async for raw in runtime.log.read_stream("thing-1")]
        return [each.event for raw in raws for each in recorded(registry, raw)]

    assert asyncio.run(written()) == [made.event(id="1", content=command.content)]


@generous
@given(st.data())
def test_a_state_comes_back_from_its_snapshot(data: st.DataObject) -> None:
    kind = data.draw(field_types)
    registry, made = domain_of(kind.annotation)
    event = made.event(id="1", content=data.draw(kind.values))

    async def through_a_snapshot() -> tuple[Any, Any]:
        log = MemoryLog()
        record = NewRecord("WasPut", event.__rayfold__.encode(event), {}, "1")
        await log.append([StreamAppend("thing-1", None, [record])])
        entity = Entity(made.thing, "thing-1")
        async for raw in log.read_stream("thing-1"):
            assert [each.event for each in recorded(registry, raw)] == [event]
            entity.fold(registry, raw)
        await save(log, entity)
        restored = await restore(log, made.thing, "thing-1", not_before=0)
        assert restored is not None
        return entity.state, restored.state

    state, restored = asyncio.run(through_a_snapshot())
    assert state == restored
    assert restored.content == event.content


@pytest.mark.parametrize("kind", [*SIMPLE, *HASHABLE], ids=lambda kind: str(kind.annotation)[:40])
def test_no_kind_of_field_is_refused_that_comes_back(kind: FieldType) -> None:
    assert domain_of(kind.annotation)


class Blobs(Message):
    one: Base64Bytes | None = None
    many: tuple[Base64UrlStr, ...] = ()
    secret: SecretBytes | None = None
    secrets: tuple[Secret[date], ...] = ()


def test_what_is_written_in_base64_is_no_secret() -> None:
    told = mistakes_of_fields(Blobs)
    assert [each.split()[0] for each in told] == ["Blobs.secret", "Blobs.secrets"]
