"""Which of Rayfold's own records name positions: a copy of a log moves each of them.

Whoever adds a record, or a field with a position to one, is told here what a copy has to know.
"""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import inspect

from actors.processes import checkpoints
from actors.processes import records as processes
from actors.schedules import records as schedules
from deploy.copying import own_records
from deploy.copying.own_records import UnknownRecord, moved
from eventstore.kurrentdb.whole_log import WholeRecord
from projections.publications import records as publications
from tests.conftest import ROOT

ELSEWHERE = {
    "actors/host/plan.py": "events of a domain's aggregates have no position",
    "actors/host/state/postgres.py": "the same, on their way through an outbox",
    "actors/host/snapshots.py": "a cache: not copied",
    "eventstore/identity.py": "says which log it is: not copied",
    "eventstore/records.py": "where it is declared",
    "eventstore/kurrentdb/whole_log.py": "the copy itself",
    "deploy/copying/copy.py": "the copy itself",
}
"""What writes records of which a copy needs to know nothing, and why."""

STRUCTS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    processes.SAW_EVENT: ("process-a-1", processes.StepRecord),
    processes.TIMED_OUT: ("process-a-1", processes.StepRecord),
    processes.COMMAND_REJECTED: ("process-a-1", processes.StepRecord),
    processes.COMMAND_ACCEPTED: ("process-a-1", processes.Accepted),
    processes.PARKED: ("process-a-1", processes.Parked),
    processes.WAITS: ("process-a-1", processes.Waits),
    processes.DROPPED: ("process-a-1", processes.Waits),
    processes.ABORTED: ("process-a-1", processes.AbortRecord),
    "ProcessLayout": ("rayfold-process-a", checkpoints._Layout),
    checkpoints.CHECKPOINT: ("rayfold-process-a-0-1", checkpoints._Checkpoint),
    publications.CHECKPOINT: ("rayfold-publication-a", publications._Checkpoint),
    publications.PARKED: ("rayfold-unpublished-a", publications.Parked),
    publications.RELEASED: ("rayfold-unpublished-a", publications._Released),
    schedules.SCHEDULED: ("schedule-1", schedules.ScheduledCommand),
    schedules.ACCEPTED: ("schedule-1", schedules.Acceptance),
    schedules.REFUSED: ("schedule-1", schedules.Refusal),
    schedules.DUE: ("schedule-1", schedules.Nothing),
    schedules.CANCELLED: ("schedule-1", schedules.Cancellation),
}
"""What each type of record is, of those whose records are structs; and a stream that it is in."""

RECORDS = (processes, checkpoints, publications, schedules)

THEN, NOW = 41, 1041


def writers() -> set[str]:
    """Return the sources that make a record."""
    found = set()
    for folder in ("rayfold", "eventstore", "actors", "projections", "api", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                made = isinstance(node, ast.Call) and "NewRecord" in ast.unparse(node.func)
                if made or (isinstance(node, ast.ClassDef) and node.name == "NewRecord"):
                    found.add(path.relative_to(ROOT).as_posix())
    return found


def test_a_copy_knows_all_modules_that_write_records() -> None:
    known = {mover_types for _, mover_types in own_records._MOVERS.values()}
    unknown = set()
    for path in writers() - ELSEWHERE.keys():
        module = import_module(path.removesuffix(".py").replace("/", "."))
        if module is not schedules and getattr(module, "TYPES", ()) not in known:
            unknown.add(path)
    assert unknown == set(), (
        "new module: say in deploy/copying/own_records.py how a copy changes its records"
    )


def test_each_type_of_record_is_examined_here() -> None:
    types = {
        *processes.TYPES,
        *checkpoints.TYPES,
        *publications.TYPES,
        *(schedules.SCHEDULED, schedules.DUE, *schedules.ENDS),
    }
    assert types == STRUCTS.keys()


@pytest.mark.parametrize("module", RECORDS, ids=lambda module: module.__name__)
def test_each_struct_that_names_a_position_is_part_of_one_of_them(module: ModuleType) -> None:
    known = {part for _, struct in STRUCTS.values() for part in parts_of(struct)}
    structs = {
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, msgspec.Struct)
    }
    for struct in structs:
        if any("position" in name for name in struct.__struct_fields__):
            assert struct in known


@pytest.mark.parametrize("event_type", STRUCTS)
def test_a_record_has_its_positions_moved_and_nothing_else(event_type: str) -> None:
    stream, struct = STRUCTS[event_type]
    before = msgspec.json.encode(sample(inspect.type_info(struct), THEN))
    record = WholeRecord(stream, 0, event_type, before, b"{}", str(UUID(int=1)), True, 50)
    after = moved(record, lambda position: position + NOW - THEN)
    wanted = msgspec.json.encode(sample(inspect.type_info(struct), NOW))
    assert msgspec.json.decode(after.data) == msgspec.json.decode(wanted)
    assert after._replace(data=b"") == record._replace(data=b"")
    assert moved(record, lambda position: position).data == before


def test_an_unknown_type_of_record_is_refused_only_in_our_own_streams() -> None:
    record = WholeRecord("order-1", 0, "New", b'{"position":1}', b"", "", True, 5)
    assert moved(record, lambda _: 0) is record
    assert moved(record._replace(stream="schedule-1"), lambda _: 0).data == record.data
    for stream in ("process-a-1", "rayfold-news", "rayfold-process-a", "discarded-orders"):
        with pytest.raises(UnknownRecord, match=f"type New of revision 0 of {stream}"):
            moved(record._replace(stream=stream), lambda _: 0)


def parts_of(struct: type[msgspec.Struct]) -> set[type]:
    """Return a struct with all that its fields are made of."""
    found: set[type] = set()

    def look(about: inspect.Type) -> None:
        match about:
            case inspect.StructType():
                found.add(about.cls)
                for field in about.fields:
                    look(field.type)
            case inspect.UnionType():
                for each in about.types:
                    look(each)
            case inspect.ListType():
                look(about.item_type)

    look(inspect.type_info(struct))
    return found


def sample(about: inspect.Type, position: int) -> Any:
    """Return a value of a type in which each position is that one; an author's data stays."""
    match about:
        case inspect.StructType():
            fields = {
                field.encode_name: position
                if "position" in field.name
                else sample(field.type, position)
                for field in about.fields
            }
            return {about.tag_field: about.tag, **fields} if about.tag_field else fields
        case inspect.UnionType():
            return sample(next(t for t in about.types if t != inspect.NoneType()), position)
        case inspect.ListType(item_type=inspect.UnionType(types=types)):
            return [sample(each, position) for each in types]
        case inspect.ListType():
            return [sample(about.item_type, position)] * 2
        case inspect.DictType():
            return {"order-1": sample(about.value_type, position)}
        case inspect.RawType():
            return {"position": THEN, "told": {"position": THEN}, "missed": [{"position": THEN}]}
        case inspect.IntType():
            return 7
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return True
        case inspect.UUIDType():
            return str(UUID(int=7))
        case inspect.DateTimeType():
            return datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    raise AssertionError(f"a record has a new kind of field, {about}: define a sample of it here")
