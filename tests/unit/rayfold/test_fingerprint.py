"""A change of a view's meaning is noticed in its code, and other changes are ignored."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rayfold import Registry
from rayfold.fingerprint import fingerprint_of

ROOT = Path(__file__).resolve().parents[3]

DOMAIN = '''
from __future__ import annotations
import functools
from decimal import Decimal
from pydantic import Field
from rayfold import *
from {package} import prices

COUNTED = {{"tea", "cake", "bread"}}
RATE = Decimal("1.10")

def net(event):
    """In cents."""
    return event.cents

@functools.cache
def rounded(cents):
    return cents

class Put(Command, name="put"):
    id: str
    cents: int

class WasPut(Event, name="WasPut"):
    id: str
    cents: int

    @property
    def doubled(self):
        return self.cents * 2

class Money(Message):
    cents: int = 0

    def plus(self, cents):
        return Money(cents=self.cents + cents)

class State(Message):
    total: Money = Money()

class Thing(Aggregate[State, Put, WasPut], category="thing", id_field="id", initial=State()):
    @staticmethod
    def decide(state, command):
        return [WasPut(id=command.id, cents=command.cents)]

    @staticmethod
    def evolve(state, event):
        return state.replace(total=state.total.plus(event.cents))

class Totals(View, name="totals", key="id"):
    id: str
    money: Money = Money()
    seen: frozenset[str] = frozenset({{"a", "b", "c", "d"}})
    extra: int = Field(default_factory=lambda: 0)

    @staticmethod
    @on(WasPut, key=lambda event: event.id)
    def was_put(row, event):
        # A comment.
        if row.id in COUNTED:
            return row.replace(extra=rounded(net(event)) + prices.of(event) + RATE)
        return row.replace(money=row.money.plus(event.doubled))
'''

PRICES = "def of(event):\n    return 1\n"

CHANGES = {
    "a fold": ("row.money.plus(event.doubled)", "row.money.plus(-event.doubled)"),
    "a key": ("key=lambda event: event.id", "key=lambda event: event.id.upper()"),
    "a default factory": ("default_factory=lambda: 0", "default_factory=lambda: 1"),
    "a default": ("money: Money = Money()", "money: Money = Money(cents=1)"),
    "a function that a fold calls": ("return event.cents", "return -event.cents"),
    "one behind a cache": ("return cents\n", "return cents + 1\n"),
    "a constant": ('Decimal("1.10")', 'Decimal("1.20")'),
    "a constant set": ('"bread"', '"butter"'),
    "a method of a value": ("self.cents + cents", "self.cents - cents"),
    "a property of the event": ("self.cents * 2", "self.cents * 3"),
    "which events": ("@on(WasPut, key", "@starts(WasPut, key"),
}

NO_CHANGES = {
    "a comment": ("# A comment.", "# Another."),
    "a docstring": ("In cents.", "In pence."),
    "a line break": ("return row.replace(extra=", "return row.replace(\n                extra="),
    "what decide does": ("return [WasPut(id=command.id", "return 2 * [WasPut(id=command.id"),
}

COUNT = iter(range(10_000))


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, prices: str) -> Registry:
    package = f"fingerprinted_{next(COUNT)}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "prices.py").write_text(prices)
    (folder / "things.py").write_text(source.format(package=package))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry.load(package)


def fingerprints(registry: Registry) -> tuple[str, str]:
    thing: Any = registry.aggregates["thing"]
    return registry.views["totals"].fingerprint, thing.fold_fingerprint()


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    return fingerprints(load(tmp_path, monkeypatch, DOMAIN, PRICES))


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_a_views_meaning_is_noticed(
    what: str, before: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHANGES[what][0] in DOMAIN
    after = load(tmp_path, monkeypatch, DOMAIN.replace(*CHANGES[what]), PRICES)
    assert fingerprints(after)[0] != before[0]


def test_a_module_that_a_fold_names_is_followed(
    before: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = load(tmp_path, monkeypatch, DOMAIN, PRICES.replace("1", "2"))
    assert fingerprints(after)[0] != before[0]


@pytest.mark.parametrize("what", NO_CHANGES)
def test_a_change_without_effect_rebuilds_nothing(
    what: str, before: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NO_CHANGES[what][0] in DOMAIN
    after = load(tmp_path, monkeypatch, DOMAIN.replace(*NO_CHANGES[what]), PRICES)
    assert fingerprints(after) == before


@pytest.mark.parametrize(
    "change",
    [
        ("state.total.plus(event.cents)", "state.total.plus(2 * event.cents)"),
        ("self.cents + cents", "self.cents - cents"),
        ("initial=State()", "initial=State(total=Money(cents=1))"),
    ],
)
def test_a_change_of_an_evolves_meaning_is_noticed(
    change: tuple[str, str],
    before: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after = load(tmp_path, monkeypatch, DOMAIN.replace(*change), PRICES)
    assert fingerprints(after)[1] != before[1]


OF_ITS_OWN = """
@upcaster("WasPut", from_version=1)
def in_cents(data):
    return data | {{"cents": 100}}
"""
OF_WHAT_IS_NO_MORE = """
@upcaster("WasLaid", from_version=1)
def laid(data):
    return "Was" + "Put", data, 2
"""
OF_ANOTHER = """
@upcaster("WasTaken", from_version=1)
def taken(data):
    return [("WasPut", data, 2) for each in (1, 2)]
"""
OF_NO_CONCERN = """
@upcaster("WasTaken", from_version=1)
def taken(data):
    return {{"id": data["id"]}}
"""
OTHERS = """
class Take(Command, name="take"):
    id: str

class WasTaken(Event, name="WasTaken", version=2):
    id: str

class Other(Aggregate[State, Take, WasTaken], category="other", id_field="id", initial=State()):
    @staticmethod
    def decide(state, command):
        return []

    @staticmethod
    def evolve(state, event):
        return state
"""
LATER = DOMAIN.replace('name="WasPut"', 'name="WasPut", version=2') + OTHERS


CONCERNED = {"its own": OF_ITS_OWN, "no more": OF_WHAT_IS_NO_MORE, "another": OF_ANOTHER}


@pytest.mark.parametrize("whose", CONCERNED)
def test_a_change_in_how_old_events_are_read_is_noticed(
    whose: str, before: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = CONCERNED[whose]
    after = fingerprints(load(tmp_path, monkeypatch, LATER + added, PRICES))
    mended = added.replace("data", "dict(data)").replace("(dict(data))", "(data)")
    again = fingerprints(load(tmp_path, monkeypatch, LATER + mended, PRICES))
    assert len({before[0], after[0], again[0]}) == 3
    assert len({before[1], after[1], again[1]}) == 3


def test_upcasters_of_events_that_a_view_does_not_fold_rebuild_nothing(
    before: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = fingerprints(load(tmp_path, monkeypatch, LATER + OF_NO_CONCERN, PRICES))
    assert after == before


def test_every_process_computes_the_same_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").write_text("")
    (tmp_path / "made" / "prices.py").write_text(PRICES)
    (tmp_path / "made" / "things.py").write_text(DOMAIN.format(package="made"))
    script = textwrap.dedent("""
        from rayfold import Registry
        for package in ("made", "domain", "examples.shop"):
            registry = Registry.load(package)
            print([view.fingerprint for view in registry.views.values()])
            print([each.fold_fingerprint() for each in registry.aggregates.values()])
    """)
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(told) == 1


async def _waits(value: int) -> int:
    """Say so."""
    return value


async def _waits_too(value: int) -> int:
    # In other words.
    return value


async def _waits_otherwise(value: int) -> int:
    return value + 1


def test_async_functions_are_compared_by_what_they_do() -> None:
    assert fingerprint_of(_waits) == fingerprint_of(_waits_too)
    assert fingerprint_of(_waits) != fingerprint_of(_waits_otherwise)
