"""What an author's message holds is what comes back: from the log, a snapshot, a command's way.

The models are made up by hypothesis, from every kind of field that pydantic can write.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from types import MappingProxyType, ModuleType
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    Base64Bytes,
    Base64UrlStr,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    PositiveInt,
    Secret,
    SecretBytes,
    StringConstraints,
    create_model,
    field_validator,
)

from actors.envelope import payload_of
from actors.errors import DecisionFailed
from actors.host.entity import Entity
from actors.host.snapshots import restore, save
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, recorded
from rayfold import (
    Aggregate,
    Command,
    ComposedQuery,
    Composing,
    Event,
    Message,
    Registry,
    Upcaster,
)
from rayfold.field_defaults import has_untried_defaults
from rayfold.field_types import mistakes_of_fields
from tests.generated.field_types import HASHABLE, KEYED, SIMPLE, FieldType, Rate, field_types

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


@pytest.mark.parametrize(
    "kind", [*SIMPLE, *HASHABLE, *KEYED], ids=lambda kind: str(kind.annotation)[:40]
)
def test_no_kind_of_field_is_refused_that_can_be_read_back(kind: FieldType) -> None:
    assert domain_of(kind.annotation)


class Blobs(Message):
    one: Base64Bytes | None = None
    many: tuple[Base64UrlStr, ...] = ()
    secret: SecretBytes | None = None
    secrets: tuple[Secret[date], ...] = ()


def test_a_field_written_in_base64_is_not_taken_for_a_secret() -> None:
    told = mistakes_of_fields(Blobs)
    assert [each.split()[0] for each in told] == ["Blobs.secret", "Blobs.secrets"]


class Bought(Message):
    rate: Rate = Rate.LOW

    @field_validator("rate", mode="before")
    @classmethod
    def parsed(cls, value: Any) -> Any:
        return Rate(Decimal(getattr(value, "value", value)))


class Tried(Command, name="tried"):
    """Defaults that come back, though pydantic warns of two."""

    price: Annotated[Decimal, PlainValidator(Decimal)] = Decimal(1)
    rate: Annotated[Rate, PlainValidator(lambda value: Rate(Decimal(value)))] = Field(Rate.LOW)
    bought: Bought = Bought()


class Uncompared(Command, name="uncompared"):
    """Defaults that come back as something else, which nobody minds."""

    extra: Any = ()
    currency: Annotated[str, StringConstraints(to_lower=True)] = "EUR"


class Elsewhere(Command, name="elsewhere"):
    """Defaults that cannot be tried here."""

    number: int = Field(default_factory=lambda: 1 // 0)
    names: Any = Field(default=MappingProxyType({}))
    tags: Sequence[str] = Field(default_factory=lambda: 1 // 0)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("command", [Tried, Uncompared, Elsewhere], ids=lambda each: each.__name__)
def test_no_default_is_refused_that_may_be_valid(command: type[Command]) -> None:
    assert command.__rayfold__.mistakes() == []
    if command is not Elsewhere:
        assert command.__rayfold__.encode(command())


class Split(Command, name="split"):
    number: int
    rest: PositiveInt = Field(default_factory=lambda given: given["number"] - 1)


class Lot(Message):
    number: PositiveInt = 0


class Bid(Command, name="bid"):
    lot: Lot


@pytest.mark.parametrize("command", [Split(number=1), Bid(lot=Lot())], ids=repr)
def test_a_command_with_an_invalid_default_is_refused_by_its_sender(
    command: Command,
) -> None:
    """Its writer would take it for another release's, and it would be sent again for ever."""
    assert type(command).__rayfold__.mistakes() == []
    with pytest.raises(DecisionFailed):
        payload_of(command, "")


class Line(Message):
    sku: str
    quantity: int = 1
    notes: list[str] = Field(default_factory=list)


class Buy(Command, name="buy"):
    lines: list[Line]


@pytest.mark.parametrize(
    ("command", "untried"), [(Buy, False), (Bid, True), (Split, True)], ids=lambda each: str(each)
)
def test_a_command_is_read_back_only_where_a_default_may_not_fit(
    command: type[Command], untried: bool
) -> None:
    """Reading it back costs more than writing it."""
    assert has_untried_defaults(command) is untried


class Plain(BaseModel):
    """An answer, which is only written."""

    number: int = 1
    hidden: int = Field(None, exclude=True)
    note: Annotated[str, BeforeValidator(lambda value: value or "")] = None  # type: ignore[assignment]


class Unresolved(Message):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("answer", "mistakes"), [(Plain, 0), (Unresolved, 1)], ids=lambda each: str(each)[-20:]
)
def test_an_answer_is_any_model_that_is_complete(answer: Any, mistakes: int) -> None:
    class Ask(ComposedQuery, name="ask", result=answer):
        def handle(self) -> Composing[Any]:
            yield from ()

    assert len(Ask.__rayfold__.mistakes()) == mistakes
