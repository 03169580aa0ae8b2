"""What makes a domain another release: all declarations, not only its functions."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfold import Registry
from rayfold.runtime.identity import domain_hash

ROOT = Path(__file__).resolve().parents[3]

DOMAIN = """
from datetime import timedelta
from typing import Any
from rayfold import *

class Put(Command, name="put"):
    id: str
    user: str = ""

class Both(Command, name="both"):
    id: str
    other: str

class WasPut(Event, name="WasPut"):
    id: str
    user: str = ""

class Told(IntegrationEvent, name="things.told"):
    id: str

class State(Message):
    count: int = 0

class Thing(Aggregate[State, Put, WasPut], category="thing", id_field="id", initial=State()):
    @staticmethod
    def decide(state: State, command: Put) -> list[WasPut]:
        return [WasPut(id=command.id)]

    @staticmethod
    def evolve(state: State, event: WasPut) -> State:
        return state.replace(count=state.count + 1)

class Together(Decision[Both], reads={"one": Thing, "two": Read(Thing, by="other")}):
    @staticmethod
    def decide(states: Any, command: Both) -> list[Event]:
        return [WasPut(id=command.id)]

class Things(View, name="things", key="id", indexes=("user",)):
    id: str
    user: str = ""
    count: int = 0

    @staticmethod
    @on(WasPut)
    def was_put(row: "Things", event: WasPut) -> "Things":
        return row.replace(count=row.count + 1)

class Users(View, name="users", key="id"):
    id: str
    count: int = 0

    @staticmethod
    @on(WasPut)
    def was_put(row: "Users", event: WasPut) -> "Users":
        return row.replace(count=row.count + 1)

class GetThing(Query, name="get-thing", view=Things):
    id: str

class GetUser(Query, name="get-user", view=Users):
    id: str

class Counted(SqlProjection, name="counted"):
    schema = "CREATE TABLE counted (id text)"

    @staticmethod
    @on(WasPut)
    def was_put(event: WasPut) -> list[Statement]:
        return [sql("INSERT INTO counted VALUES ($1)", event.id)]

class Watch(ProcessManager[State, WasPut], name="watch", key="id", initial=State()):
    @staticmethod
    def evolve(state: State, happened: Any) -> State:
        return state

    @staticmethod
    @starts(WasPut)
    def was_put(state: State, event: WasPut) -> list[Step]:
        return [Schedule("late", after=timedelta(days=1))]

    @staticmethod
    @on_timeout("late")
    def late(state: State, timeout: TimedOut) -> list[Step]:
        return [Complete()]

class News(Publication[Told], name="news", key="id"):
    @staticmethod
    @on(WasPut)
    def was_put(event: WasPut) -> Told:
        return Told(id=event.id)

class Mails(Reactor, name="mails"):
    @on(WasPut)
    async def was_put(self, event: WasPut, attempt: Attempt) -> None:
        print("mail")

class Looking(Middleware, name="looking"):
    async def query(self, query: Any, context: Any, proceed: Any) -> Any:
        return await proceed(query)

ROUTES = [
    Route("POST", "/things/{id}", Put),
    Route("GET", "/things/{id}", GetThing),
]
"""

CHANGES = {
    "a permission of a command": ('name="put"', 'name="put", needs="things:put"'),
    "a permission of a query": ('name="get-thing"', 'name="get-thing", needs="things:read"'),
    "what a query asks": ('name="get-user", view=Users', 'name="get-user", view=Things'),
    "what a route is for": ('"/things/{id}", GetThing', '"/things/{id}", GetUser'),
    "what else a route answers": ("GetThing),", "GetThing, minimal=GetUser),"),
    "where a view is kept": ('name="users"', 'name="users", stores=("memory",)'),
    "what a poison event does": ('name="users"', 'name="users", on_poison="stop"'),
    "where an aggregate lives": ('id_field="id"', 'id_field="id", placement=Placement.DEDICATED'),
    "whether commands are kept": ('id_field="id"', 'id_field="id", keep_commands=True'),
    "how often snapshots are taken": ('id_field="id"', 'id_field="id", snapshot_every=9'),
    "an initial state": (
        'id_field="id", initial=State()',
        'id_field="id", initial=State(count=1)',
    ),
    "what evolve means elsewhere": ('id_field="id"', 'id_field="id", fold_version=2'),
    "whether a command creates": ('name="put"', 'name="put", creates=True'),
    "which instance is read": ('by="other"', "by=lambda command: command.other.lower()"),
    "a process's beginning": (
        'key="id", initial=State()):\n    @staticmethod\n    def evolve(state: State, h',
        'key="id", initial=State(count=1)):\n    @staticmethod\n    def evolve(state: State, h',
    ),
    "how long a process goes round": ('name="watch"', 'name="watch", max_chain=3'),
    "what others are told": ("Told(id=event.id)", "Told(id=event.id + '!')"),
    "which others are told": ('name="things.told"', 'name="things.told", version=2'),
    "what is done outside": ('print("mail")', 'print("two mails")'),
    "how often it is tried": ('name="mails"', 'name="mails", attempts=3'),
    "the SQL of a projection": ("(id text)", "(id text PRIMARY KEY)"),
    "the order of middleware": ('name="looking"', 'name="looking", order=3'),
}


def hash_of(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the hash of a domain with this source, as a process of its own would have it."""
    folder.mkdir()
    (folder / "things_of_one_release.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "things_of_one_release", raising=False)
    importlib.invalidate_caches()
    return domain_hash(Registry.load("things_of_one_release"))


@pytest.mark.parametrize("what", CHANGES)
def test_every_changed_declaration_is_another_release(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `rayfold upgrade` would find it running already, and change nothing."""
    before, after = CHANGES[what]
    changed = DOMAIN.replace(before, after, 1)
    assert changed != DOMAIN
    one = hash_of(DOMAIN, tmp_path / "one", monkeypatch)
    assert hash_of(DOMAIN + "\n# a comment\n", tmp_path / "same", monkeypatch) == one
    assert hash_of(changed, tmp_path / "two", monkeypatch) != one


def test_every_process_computes_the_same_identity() -> None:
    script = (
        "from rayfold import Registry; from rayfold.runtime.identity import domain_hash;"
        " print([domain_hash(Registry.load(each)) for each in ('domain', 'examples.shop',"
        " 'examples.coupons')])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(told) == 1
