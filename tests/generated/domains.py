"""Whole domains, made up: aggregates, views and queries with fields of any name and type.

What a domain does is simple and known: an event copies what its command holds, a view copies
what its event holds and counts. What it holds, and what everything is called, is anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Optional
from uuid import UUID

from hypothesis import strategies as st
from pydantic import create_model

from eventstore.records import NewRecord
from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    PageQuery,
    Query,
    Registry,
    Rejected,
    Upcaster,
    View,
    key_text,
    on,
    starts,
)
from tests.generated.field_types import ORDERED, FieldType, row_types, texts
from tests.generated.names import NAMES, PAGE_OWN

How = Literal["one", "two", "none", "no", "break"]
"""What deciding does: so many events, a refusal, an exception."""


@dataclass
class MadeUp:
    """A domain, and what may be sent to it."""

    registry: Registry
    commands: st.SearchStrategy[Command]
    old: st.SearchStrategy[tuple[str, NewRecord]]
    """Records that stand in streams since long ago, or are from somebody else; with the stream."""
    poisonous: bool
    """Some of it cannot be read, or cannot be kept in Postgres."""


@dataclass
class _Kind:
    """A command and its event, with the same fields."""

    command: type[Command]
    event: type[Event]
    fields: dict[str, FieldType]
    category: str
    upcasters: dict[str, Upcaster]

    def events(self) -> st.SearchStrategy[Event]:
        """Events of it."""
        return st.builds(self.event, **{name: field.values for name, field in self.fields.items()})


_types = st.sampled_from(ORDERED) | row_types

POISON = st.sampled_from(["\0", "x" * 3000]) | texts
"""Texts that some store has trouble with."""

IDS = [
    FieldType(str, st.sampled_from(["a", "b-c", "ö/ö", "%2F", " "])),
    FieldType(UUID, st.sampled_from([UUID(int=1), UUID(int=2)])),
    FieldType(int, st.sampled_from([0, -1, 2**70])),
]


@st.composite
def domains(draw: st.DrawFn) -> MadeUp:
    """A domain of one or two aggregates and some views."""
    module = ModuleType("made_up")
    kinds: list[_Kind] = []
    commands = []
    poisonous = draw(st.booleans())
    for category in ("thing", "other_thing")[: draw(st.integers(1, 2))]:
        id_type = draw(st.sampled_from(IDS))
        own = [
            draw(_kinds(category, number, id_type, poisonous))
            for number in range(draw(st.integers(1, 2)))
        ]
        kinds += own
        aggregate = _aggregate(category, own, draw(st.sampled_from([1, 2, 500])))
        setattr(module, category, aggregate)
        for kind in own:
            values = {name: field.values for name, field in kind.fields.items()}
            hows = st.sampled_from(["one", "one", "one", "two", "none", "no", "break"])
            commands.append(st.builds(kind.command, how_=hows, **values))
            for name, each in kind.upcasters.items():
                setattr(module, name, each)
    for number in range(draw(st.integers(1, 3))):
        view = draw(_views(f"view-{number}", kinds))
        setattr(module, f"view_{number}", view)
        for query in _queries(view):
            setattr(module, f"query_{query.__name__}", query)
    for member in vars(module).values():
        if isinstance(member, type):
            member.__module__ = "made_up"
    old = st.one_of(*(_old_records(kind, poisonous) for kind in kinds))
    return MadeUp(Registry([module]), st.one_of(*commands), old, poisonous)


@st.composite
def _old_records(draw: st.DrawFn, kind: _Kind, poisonous: bool) -> tuple[str, NewRecord]:
    event: Any = draw(kind.events())
    name, data = event.__rayfold__.name, event.__rayfold__.encode(event)
    names = [name, f"Once{name}", "Unwanted"] if kind.upcasters else [name]
    event_type = draw(st.sampled_from(names))
    if poisonous:
        event_type = draw(st.sampled_from([event_type] * 5 + ["NobodyKnowsIt"]))
        data = draw(st.sampled_from([data] * 5 + [b"{", b"[]", b'{"id_": []}']))
    version = "1" if kind.upcasters else str(event.__rayfold__.version)
    identity = str(draw(st.uuids()))
    stream = f"{kind.category}-{key_text(event.id_)}"
    return stream, NewRecord(event_type, data, {"schemaVersion": version}, identity)


@st.composite
def _kinds(
    draw: st.DrawFn, category: str, number: int, id_type: FieldType, poisonous: bool
) -> _Kind:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    fields = {"id_": id_type, **{name: draw(_types) for name in names}}
    if poisonous:
        fields[names[0]] = FieldType(str, POISON)
    if draw(st.booleans()):
        fields["many_"] = FieldType(list[str], st.lists(st.sampled_from("abc"), max_size=3))
    annotations: Any = {name: (field.annotation, ...) for name, field in fields.items()}
    stem = f"{category.title().replace('_', '')}{number}"
    command = create_model(
        f"Put{stem}",
        __base__=Command,
        __cls_kwargs__={
            "name": f"put-{category.replace('_', '-')}-{number}",
            "creates": draw(st.booleans()),
        },
        how_=(How, ...),
        **annotations,
    )
    name, upcasts = f"Was{stem}", draw(st.sampled_from([None, None, "same", "two", "none"]))
    event = create_model(
        name,
        __base__=Event,
        __cls_kwargs__={"name": name, "version": 2 if upcasts else 1},
        **annotations,
    )
    upcasters = _upcasters(name, upcasts) if upcasts else {}
    return _Kind(command, event, fields, category, upcasters)


def _upcasters(name: str, what: str) -> dict[str, Upcaster]:
    def upcast(data: dict[str, Any]) -> Any:
        return {"same": data, "two": [(name, data), (name, data)], "none": None}[what]

    return {
        f"upcast_{name}": Upcaster(name, 1, upcast),
        f"rename_{name}": Upcaster(f"Once{name}", 1, lambda data: (name, data)),
        "unwanted": UNWANTED,
    }


UNWANTED = Upcaster("Unwanted", 1, lambda data: None)


def _aggregate(category: str, kinds: list[_Kind], snapshot_every: int) -> Any:
    optional = {
        name: (Optional[field.annotation], None)  # noqa: UP045  # made at run time
        for kind in kinds
        for name, field in kind.fields.items()
        if all(other.fields.get(name, field) == field for other in kinds)
    }
    state_type: Any = create_model("State", __base__=Message, count_=(int, 0), **optional)
    event_of = {kind.command: kind.event for kind in kinds}
    all_commands: Any = kinds[0].command
    all_events: Any = kinds[0].event
    for kind in kinds[1:]:
        all_commands, all_events = all_commands | kind.command, all_events | kind.event

    class Thing(
        Aggregate[state_type, all_commands, all_events],
        category=category,
        id_field="id_",
        initial=state_type(),
        snapshot_every=snapshot_every,
    ):
        @staticmethod
        def decide(state: Any, command: Any) -> Any:
            if command.how_ == "no":
                raise Rejected("no", f"no, for the {state.count_} time")
            if command.how_ == "break":
                raise ZeroDivisionError
            held = {name: value for name, value in command if name != "how_"}
            times = {"one": 1, "two": 2, "none": 0}[command.how_]
            return [event_of[type(command)](**held) for _ in range(times)]

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            held = {name: value for name, value in event if name in optional}
            return Message.replace(state, count_=state.count_ + 1, **held)

    return Thing


@st.composite
def _views(draw: st.DrawFn, name: str, kinds: list[_Kind]) -> Any:
    followed = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique_by=id))
    shared = {
        field: kind
        for field, kind in followed[0].fields.items()
        if all(each.fields.get(field) == kind for each in followed)
    }
    keys = [field for field, kind in shared.items() if kind in ORDERED or field == "id_"]
    key = draw(st.sampled_from([*keys, "text_"]))
    held = {field: kind for field, kind in shared.items() if field != key}
    fields: Any = {
        field: (Optional[kind.annotation], None)  # noqa: UP045
        for field, kind in held.items()
    }
    key_type = shared[key].annotation if key in shared else str
    ordered = [field for field, kind in held.items() if kind in ORDERED]
    indexes = draw(st.lists(st.sampled_from(ordered), unique=True)) if ordered else []
    poison = draw(st.sampled_from([0, 0, 2, 3]))
    wrong = draw(st.sampled_from([None, None, None, "a dict", "a field"]))
    deletes = draw(st.sampled_from([0, 0, 4]))
    many = key == "text_" and draw(st.booleans())

    def key_of(event: Any) -> Any:
        if key != "text_":
            return getattr(event, key)
        own = key_text(event.id_)
        return [own, "all", *getattr(event, "many_", ())] if many else own

    def fold(row: Any, event: Any) -> Any:
        count = row.count_ + 1
        if poison and count % poison == 0:
            raise ValueError(f"{count} is poison")
        if deletes and count % deletes == 0:
            return None
        if wrong and count == 2:
            return {} if wrong == "a dict" else Message.replace(row, count_="two")
        return Message.replace(
            row, count_=count, **{field: getattr(event, field) for field in held}
        )

    base = create_model(
        "Row",
        __base__=View,
        __cls_kwargs__={"name": "base", "key": key},
        **{key: (key_type, ...)},
        count_=(int, 0),
        **fields,
    )
    marked, others = {}, [each.event for each in followed]
    if draw(st.booleans()):
        first, *others = others

        def begin(event: Any, row_key: Any) -> Any:
            return view(**{key: row_key}, **{field: getattr(event, field) for field in held})

        marked["begin_"] = staticmethod(starts(first, key=key_of)(begin))
    if others:
        marked["fold_"] = staticmethod(on(*others, key=key_of)(fold))
    view = type(base)(
        name.title().replace("-", ""),
        (base,),
        {**marked, "__module__": "made_up"},
        name=name,
        key=key,
        indexes=tuple(indexes),
        on_poison=draw(st.sampled_from(["park", "park", "stop"])),
    )
    return view


def _queries(view: Any) -> list[Any]:
    definition = view.__rayfold__
    fields = view.model_fields
    get = create_model(
        "Get",
        __base__=Query,
        __cls_kwargs__={"name": f"get-{definition.name}", "view": view},
        **{definition.key: (fields[definition.key].annotation, ...)},
    )
    find = create_model(
        "Find",
        __base__=PageQuery,
        __cls_kwargs__={"name": f"find-{definition.name}", "view": view},
        **{
            field: (fields[field].annotation, None)
            for field in definition.indexes
            if field not in PAGE_OWN
        },
    )
    return [get, find]


__all__ = ["MadeUp", "domains"]
