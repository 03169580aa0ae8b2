"""An author's mistakes: each has a sentence, and all are told at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfold import DomainError, Registry
from tests.stack import rayfold

MISTAKEN = "tests.unit.rayfold.mistaken"
ROOT = Path(__file__).resolve().parents[3]

SENTENCES = """
cannot import tests.unit.rayfold.mistaken.broken: RuntimeError: this module is broken \
(broken.py, line 3)
cannot import tests.unit.rayfold.mistaken.ending: SystemExit: nothing is configured \
(ending.py, line 5)
cannot import tests.unit.rayfold.mistaken.unmade: Counted.number: Field required \
(unmade.py, line 10)
Thing: a category is a to z, digits and _, without a dash; got 'two-words'
NotKebab needs name="…" in kebab-case, like 'add-line'; got 'NotKebab'
LacksId has no field 'thing_id', the id
ListId.thing_id cannot be an id: not a scalar
PerhapsId.thing_id may be None, but an id always has a value: remove None
PerhapsKey.thing_id may be None, but no row has such a key: remove None
lower needs name="…" in PascalCase, like 'LineAdded'; got 'lower'
NoZone.at is a datetime that is not one instant everywhere: use rayfold.UtcDatetime
OfItsOwn.at is a datetime that is not one instant everywhere: use rayfold.UtcDatetime
OfItsOwn.within is a datetime that is not one instant everywhere: use rayfold.UtcDatetime
Uncallable.call is a callable: that cannot be written as JSON
LookAlike.when is a union whose members look alike in JSON: keep one, or wrap them in models
LookAlike.numbers is a union whose members look alike in JSON: keep one, or wrap them in models
LeftOut.secret is excluded from JSON, so it would be lost
Lossy is not frozen: what others hold too could be changed
Lossy allows fields that it does not declare: they would be lost
Lossy.password is a secret, which JSON has as asterisks: use str, and show it in no view
Lossy.parsed is a Json, which is no longer text once it has been read: that cannot be written \
as JSON
Lossy.inner holds a field that is excluded from JSON, so it would be lost
Lossy.bag holds Bag, whose sets would be written in any order, as it is not a rayfold.Message: \
derive it from that
Lossy.aliased holds Aliased, whose 'number' is read by an alias and written by its name: say \
validate_by_name=True in its model_config
Lossy.by_pair has keys that are not text: read back from JSON, they would be text. Let them be \
text, or all of them a number, an id, a date, or a member of an enumeration
Lossy.by_none has keys that are not text: read back from JSON, they would be text. Let them be \
text, or all of them a number, an id, a date, or a member of an enumeration
Lossy.by_names has keys that are not text: read back from JSON, they would be text. Let them be \
text, or all of them a number, an id, a date, or a member of an enumeration
Lossy.by_either has keys that are not text: read back from JSON, they would be text. Let them be \
text, or all of them a number, an id, a date, or a member of an enumeration
Lossy.by_number has keys that are not text: read back from JSON, they would be text. Let them be \
text, or all of them a number, an id, a date, or a member of an enumeration
Lossy.place may be Place.CENTRE, which would be another value when read back from JSON: let it be \
text or a number
Lossy.aliased_data holds AliasedData, whose 'number' is read by an alias and written by its name: \
say validate_by_name=True in the config of its decorator
Lossy.aliased_dict holds AliasedDict, whose 'number' is read by an alias and written by its name: \
say validate_by_name=True in its __pydantic_config__
Lossy.open holds Open, which allows fields that it does not declare: they would be lost
Untaken.price has a default that it does not take: a int
Untaken.tags has a default that does not come back from JSON as it is: a tuple became a list
Untaken.least has a default that it does not take: Input should be greater than or equal to 1
Within.note has a default that it does not take: Input should be a valid string
Random._seen is private, so it is lost wherever the Random is written: make it a field, or a \
cached_property of its fields
Random.key has a default that differs each time: take it from the event, as it is folded \
in many places
Random.at has a default that differs each time: take it from the event, as it is folded \
in many places
VersionZero: a schema version starts at 1, not 0
Snapshots: Rayfold keeps streams of its own in 'snapshot'
Snapshots needs a static method `decide`
Snapshots needs a static method `evolve`
Snapshots needs id_field="…", the field of every message that holds the id
NoTypes must derive from Aggregate[State, Commands, Events]
two upcasters read version 1 of 'Gone'
Keyless needs key="…", the field that identifies a row
TwoForOne.two and one are both for Versioned: remove one
ReturnsNothing.versioned returns nothing: write `return None` where it deletes the row
Versioned has no field 'colour', the key of Unkeyed: give its fold key=…
Unordered.tags cannot be its index: not a scalar
Unordered has no field 'colour' for its index
SystemColumn.xmin needs another name: Postgres has a system column of that name
SystemColumn.revision needs another name: every row's document has a `revision` of its own
NeverBegins: no row ever begins; mark a fold with @starts, or give total a default
FoldsNothing folds no event: mark its functions with @on or @starts
WhereTo: stores are ('memory', 'postgres', 'redis', 'dynamodb'), at least one; got ('oracle',)
Competing: competing consumers need stores=('postgres',) and to park
Long: the name 'long-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is 65 \
bytes long, at most 48 fit
OurTables: 'rayfold-checkpoint' is taken in Postgres: choose another name
AnIndex: 'things-pkey' is taken in Postgres: choose another name
Public: 'public' is taken in Postgres: choose another
NoTables needs a `schema` that creates its tables
NoTables handles no event
NoView needs view=…, the view that it asks
WrongField must have the field 'thing_id' and no other; derive it from PageQuery to ask for many \
rows
NoIndex.thing_id is not an index of TwoForOne, and a page is filtered by such alone: indexes=(…, \
'thing_id'), or a SqlQuery for ranges and orders
OwnLimit.limit needs another name: every page has a field of that name
NotAsked.handle is async: let it `yield` what it asks, and take `async` away
NoHandle needs result=…, the model of its answer
NoHandle needs a method `handle`
Nameless.name has a default that it does not take: Input should be a valid string
NoStatement needs projection=…, whose tables it asks
NoStatement needs row=…, the model of a row of its answer
NoStatement needs a method `statement`
two declarations of the command 'twice': tests.unit.rayfold.mistaken.things.Twice and \
tests.unit.rayfold.mistaken.things.TwiceAgain
Twice is a command of both Thing and Snapshots
OfAnother.counted is for NoZone, and takes a Versioned
OfNobody is for NobodyYields, which no aggregate yields
the route POST /things/relabel lacks {thing_id}, the id of what Twice is for; \
only one with creates=True may bring it in its body
the route POST /things/{what}/again has the parameter 'what', which is not a field of TwiceAgain
the route POST /things/{what}/again lacks {thing_id}, the id of what TwiceAgain is for; \
only one with creates=True may bring it in its body
the route POST /commands/{thing_id} belongs to the gateway: choose another first segment
the route GET /things/{thing_id}: GET is for queries, POST and DELETE are for commands
the route POST things is not a path of segments and {parameters} in ASCII
the route POST things lacks {thing_id}, the id of what Twice is for; \
only one with creates=True may bring it in its body
Dashed needs name="…" in lower case without a dash, like 'fulfilment'; got 'two-words'
Dashed: no process ever begins; mark a handler with @starts
NewestMaybe: newest_first is True or False; got 1
NewestOne asks for one row: newest_first is for a PageQuery
NoArguments must derive from ProcessManager[State, Events]
NoArguments needs a static method `evolve`
NoArguments needs key="…", the field of its events that says which process
NoArguments: no process ever begins; mark a handler with @starts
Various needs initial=…, a NoTime
NoTime.at is a datetime that is not one instant everywhere: use rayfold.UtcDatetime
Various: max_chain is 1 or more, not 0
Various.nothing yields nothing: take it out, or let it yield steps
Various.later and late are both for the timeout 'late': remove one
Various.unseen is for NotKebab, which Various does not see: add it to \
ProcessManager[State, Events]
Various.refused is for TwiceAgain, and takes a NotKebab
Various.refused is marked for Progress, which is not a command
Various.late is marked for the timeout '': name it
NobodyYields has no field 'colour', the key of Various: give its handler key=…
Various sees NobodyYields, which no aggregate yields
Told is an integration event: Thing yields facts
Yelled needs name="…" in kebab-case, with dots at most, like 'shop.order-shipped'; got 'Yelled'
Yelled: a schema version starts at 1, not 0
Yelled.at is a datetime that is not one instant everywhere: use rayfold.UtcDatetime
Hushed.shade is written as 'shadeOf', and not read by that name: say alias='shadeOf', or give \
validation_alias= that one too
Inside.size is written as 'inCm', and not read by that name: say alias='inCm', or give \
validation_alias= that one too
Untold needs name="…" in kebab-case, like 'order-news'; it has none
Untold must derive from Publication[IntegrationEvents]
Untold needs key="…", the field of what it carries that orders it
Untold.versioned returns nothing: give the integration events, or None
Told has no field 'colour', the key of Twofold
Yelled.colour cannot be a key: not a scalar
Twofold begins no rows, and has one key: use plain @on
Twofold is for NobodyYields, which no aggregate yields
two declarations of the publication 'news': tests.unit.rayfold.mistaken.publications.Twofold and \
tests.unit.rayfold.mistaken.publications.TwofoldAgain
two declarations of the integration event 'told': tests.unit.rayfold.mistaken.things.Told \
and tests.unit.rayfold.mistaken.publications.ToldAgain
Idle needs name="…" in kebab-case, like 'receipts'; got 'Idle'
Idle: attempts is 1 or more, not 0
Idle: timeout is more than 0 and at most 600 seconds
Idle handles no event: mark its methods with @on
Waits.versioned must be `async def`
Waits.versioned takes (self, event, attempt)
Waits is for NobodyYields, which no aggregate yields
Bell.decide is async: nothing waits for it, so take `async` away
Bell.evolve returns nothing: return the state
Gong.decide has to be a static method of (state, command)
Gong.decide returns nothing: return the events, or raise Rejected
Ring is a command of both Bell and Gong
Bells.rang has to be a static method of (row, event)
Rings.rang has to be a static method of (event)
the upcaster of version 1 of 'Clang' returns nothing: return the data, or None
Lamp.evolve yields: let it return the state
Lamps.changed is defined twice, and the second replaces the first: give each its own name
Lamps.changed yields: let it return the row
Watching.evolve returns nothing: return the state
Watching.ends is defined twice, and the second replaces the first: give each its own name
the upcaster of version 1 of 'Glowed' yields: let it return a list
Lot.evolve calls time.time_ns, which returns another value each time: \
take it from the event
Lots.drawn calls calendar.date.today, which returns another value each time: \
take it from the event
Lots.drawn calls datetime.now, which returns another value each time: \
take it from the event
Lots.drawn calls random.randint, which returns another value each time: \
take it from the event
the key of LotsByChance.drawn calls uuid4, which returns another value each time: \
take it from the event
Draws.drawn calls datetime.utcnow, which returns another value each time: \
take it from the event
Wheel.evolve calls date.today, which returns another value each time: \
take it from the event
Wheel.drawn calls random.random, which returns another value each time: \
take it from the event
the upcaster of version 1 of 'Drew' calls uuid4, which returns another value each time: \
take it from the event
both a reactor and a view or projection are named 'two-for-one'
an upcaster reads version 3 of 'Versioned', which is at version 3: there is nothing to read
an upcaster reads version 1 of 'Versioned', none reads 2
Shouting needs name="…" in kebab-case, like 'audit'; got 'Shouting'
Synchronous.command must be `async def`, and neither static nor of the class
Mistyped needs `async def command` or `async def query`
Mistyped.on_command is called by nobody: a middleware has command, query, open, close; call it \
_on_command if it is for these
NeedsMore.query takes (self, query, context, proceed)
NeedsMore.open must be `async def`, and neither static nor of the class
NeedsMore is made without arguments: get what it needs in `open`
InOrder: order must be a whole number (the lowest is outermost)
two declarations of the middleware 'synchronous': \
tests.unit.rayfold.mistaken.middleware.Synchronous and tests.unit.rayfold.mistaken.middleware.Beside
Shouting and AlsoFirst both have order=1: say which is around the other
""".strip().split("\n")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(DomainError) as caught:
        Registry.load(MISTAKEN)
    assert sorted(caught.value.mistakes) == sorted(SENTENCES)


def test_rayfold_up_reports_all_mistakes_and_exits_with_2(tmp_path: Path) -> None:
    result = subprocess.run(
        [*rayfold(), "up", "--domain", MISTAKEN, "--data", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    told = [line for line in result.stderr.splitlines() if line.startswith("rayfold: ")]
    assert sorted(told) == sorted(f"rayfold: {each}" for each in SENTENCES)
    assert not any(tmp_path.iterdir())  # nothing was begun


ALONE = """
from typing import Any, Never
from pydantic import BaseModel
from rayfold import *

class State(Message):
    pass

class Put(Command, name="put"):
    id: str

class WasPut(Event, name="WasPut"):
    id: str

class Plain(BaseModel):
    count: int = 0

class Thing(Aggregate[State, Put, WasPut], category="thing", id_field="id", initial=State()):
    @staticmethod
    def decide(state, command):
        return [WasPut(id=command.id)]

    @staticmethod
    def evolve(state, event):
        return state

class Things(View, name="things", key="id"):
    id: str

    @staticmethod
    @on(WasPut)
    def was_put(row, event):
        return row

ROUTES = [Route("POST", "/things/{id}", Put)]
"""

GENERIC = """from typing import Generic, TypeVar

T = TypeVar("T")

class Of(Event, Generic[T], name="Of"):
    id: str
    value: T

class Other(Aggregate[State, Never, Of[int]], category="other", id_field="id", initial=State()):
    @staticmethod
    def evolve(state, event):
        return state

class WasPut(Event, name="WasPut")"""

ODD = {
    "a state that is no message": (
        ("Aggregate[State, Put", "Aggregate[Plain, Put"),
        "Thing needs initial=…, a Plain",
        "Thing has a Plain as its state, which is not a rayfold.Message: derive it from that",
    ),
    "an event by its name": (
        ("@on(WasPut)", '@on("WasPut")'),
        "Things.was_put is marked for 'WasPut', which is not an event",
    ),
    "an event that is not named": (
        ("@on(WasPut)", "@on"),
        "cannot import the domain 'alone': TypeError: @on names no event: write @on(Event)"
        " (alone.py, line 31)",
    ),
    "a key by its name": (
        ("@on(WasPut)", '@on(WasPut, key="id")'),
        "key='id' of Things.was_put is not a function of the event: write key=lambda event: …, or"
        " leave it out if a field has the key's name",
    ),
    "a view by its name": (
        ("ROUTES", 'class Get(Query, name="get", view="things"):\n    id: str\n\nROUTES'),
        "Get needs view=…, the view that it asks; got 'things'",
    ),
    "a route for an aggregate": (
        ('{id}", Put)', '{id}", Thing)'),
        "the route POST /things/{id} is for <class 'alone.Thing'>: give the class of a command or"
        " a query",
    ),
    "a route for a command at hand": (
        ('{id}", Put)', '{id}", Put(id="1"))'),
        "the route POST /things/{id} is for Put(id='1'): give the class of a command or a query",
    ),
    "a method that no route has": (
        ('"POST"', '"PUT"'),
        "the route PUT /things/{id}: a route is one of GET, POST, DELETE",
    ),
    "what is no route": (
        ("Put)]", 'Put), ("GET", "/things", Put)]'),
        "among the routes of alone is ('GET', '/things', <class 'alone.Put'>), which is"
        " not a Route",
    ),
    "a command that no aggregate has": (
        ("class WasPut", 'class Take(Command, name="take"):\n    id: str\n\nclass WasPut'),
        "no aggregate or decision decides Take: add it to the commands of its"
        " Aggregate[…], or of a Decision[…]",
    ),
    "a generic event": (
        ('class WasPut(Event, name="WasPut")', GENERIC),
        "Of[int] needs name=\"…\" in PascalCase, like 'LineAdded'; it has none: derive a class from"
        " it, class …(Of[int], name=…)",
        "Other takes no command, and no decision reads it",
    ),
    "a keyword with a slip": (
        ('Event, name="WasPut"', 'Event, name="WasPut", versoin=2'),
        "cannot import the domain 'alone': TypeError: WasPut has no class keyword versoin=…;"
        " it takes name, version, subject (alone.py, line 12)",
    ),
    "a keyword of another class": (
        ("initial=State()):", "initial=State(), key='id'):"),
        "cannot import the domain 'alone': TypeError: Thing has no class keyword key=…; it takes"
        " category, id_field, initial, placement, fold_version, snapshot_every, storage,"
        " keep_commands (alone.py, line 18)",
    ),
}


def alone(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    (folder / "alone.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "alone", raising=False)
    return Registry.load("alone")


@pytest.mark.parametrize("what", ODD)
def test_an_odd_declaration_has_a_sentence_too(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no traceback: one mistake does not prevent the other checks."""
    change, *told = ODD[what]
    assert change[0] in ALONE
    with pytest.raises(DomainError) as caught:
        alone(ALONE.replace(*change, 1), tmp_path, monkeypatch)
    assert [*caught.value.mistakes] == told


def test_an_equivalent_form_of_a_declaration_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ALONE.replace("[Route(", "(Route(").replace("Put)]", "Put),)")  # a tuple of routes
    source = source.replace('key="id")', 'key="id", stores="memory", indexes=("id"))')
    registry = alone(source, tmp_path, monkeypatch)
    assert [route.path for route in registry.routes] == ["/things/{id}"]
    view = registry.views["things"]
    assert (view.stores, view.indexes) == (("memory",), ("id",))


TAKES = {
    "a class of others as a default": "row, event, kinds: tuple[type[Other], ...] = (Other,)",
    "another message beside its own": "row, event, before: Other | None = None",
    "whatever else there is": "row, *event: Other",
}


@pytest.mark.parametrize("what", TAKES)
def test_a_wrong_message_is_a_mistake_only_if_a_parameter_says_its_type(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = 'class Other(Event, name="Other"):\n    id: str\n\nclass Things(View'
    source = ALONE.replace("class Things(View", other)
    alone(source.replace("row, event", TAKES[what]), tmp_path, monkeypatch)
    with pytest.raises(DomainError, match="is for WasPut, and takes a Other"):
        alone(source.replace("row, event", "row, event: Other"), tmp_path, monkeypatch)


def test_a_decorator_may_pass_another_message_to_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wraps = """
import functools

class Other(Event, name="Other"):
    id: str

def of_other(function):
    @functools.wraps(function)
    def given(row, event):
        return function(row, Other(id=event.id))
    return given

class Things(View"""
    source = ALONE.replace("class Things(View", wraps)
    source = source.replace("@on(WasPut)", "@on(WasPut)\n    @of_other")
    source = source.replace("was_put(row, event)", "was_put(row, event: Other)")
    alone(source, tmp_path, monkeypatch)


BASES = """
from typing import Any, Generic, TypeVar
from rayfold import *

class Put(Command, name="put"):
    id: str

class WasPut(Event, name="WasPut"):
    id: str

class State(Message):
    pass

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)

class Things(Aggregate[State, C, E | WasPut], Generic[E, C]):
    @staticmethod
    def evolve(state, event):
        return state

class Thing(Things[WasPut, Put], category="thing", id_field="id", initial=State()):
    @staticmethod
    def decide(state, command):
        return [WasPut(id=command.id)]

class Processes(ProcessManager[State, E], Generic[E]):
    @staticmethod
    def evolve(state, happened):
        return state

class Process(Processes[WasPut], name="process", key="id", initial=State()):
    @staticmethod
    @starts(WasPut)
    def was_put(state, event):
        yield Complete()

class Counted:
    @staticmethod
    @on(WasPut)
    def was_put(row, event):
        return row.replace(count=row.count + 1)

class Counts(View):
    id: str
    count: int = 0

class InMemory(Counted, Counts, name="in-memory", key="id", stores=("memory",)):
    pass

class InPostgres(Counted, Counts, name="in-postgres", key="id", stores=("postgres",)):
    pass
"""


def test_a_base_needs_no_name_and_may_be_generic_and_a_mixin_has_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with_bases.py").write_text(BASES)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load("with_bases")
    assert [*registry.views] == ["in-memory", "in-postgres"]
    [was_put] = [each.model for each in registry.events.values()]
    assert all(len(view.folds) == 1 for view in registry.views.values())
    assert [each.events for each in registry.aggregates.values()] == [(was_put,)]
    assert [each.events for each in registry.processes.values()] == [(was_put,)]
