"""What `rayfold check` finds, of changes as authors make them; each is asked of the real reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from itertools import product
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AliasChoices, Field

from deploy.authoring.catalogue.checking import Report, check, taken_up
from deploy.authoring.catalogue.lock import (
    Catalogue,
    catalogue_of,
    read,
    text_of,
)
from deploy.authoring.catalogue.samples import samples
from deploy.authoring.catalogue.skeleton import skeleton
from deploy.errors import StartError
from rayfold import (
    FORGOTTEN,
    Message,
    Personal,
    Registry,
    UtcDatetime,
    upcaster,
)
from rayfold.errors import UnknownEventType, UnreadableEvent
from tests.documents import ROOT
from tests.unit.deploy.authoring.domains import Upcast, domain, happened, told


class Line(Message):
    sku: str
    quantity: int


class LineOfMore(Message):
    sku: str
    quantity: int
    price: int


class Priced(Message):
    amount: int
    currency: str


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


KINDS: dict[str, Any] = {
    "text": Annotated[str, Field(min_length=1, max_length=9)],
    "number": (Annotated[int, Field(ge=0)] | None, None),
    "price": Annotated[Decimal, Field(max_digits=9, decimal_places=2, multiple_of=5)],
    "at": UtcDatetime,
    "whose": Personal[str],
    "key": UUID,
    "size": Size,
    "kind": Literal["a", "b"],
    "lines": Annotated[list[Line], Field(max_length=9)],
    "place": tuple[int, str],
    "counts": dict[UUID, int],
}
"""A field of each kind of type, as a schema has them."""

ODD: list[Any] = [
    *(None, True, 0, -1, 1e400, 10**30, "", "object", [], {}, [[]], [{}], ["string"]),
    *({"type": ["string", "null"]}, {"anyOf": []}, {"enum": []}, {"$ref": "#/$defs/Itself"}),
    *({"type": "string", "minLength": 10**12}, {"type": "array", "minItems": 10**12}),
]
"""What may stand in a lock file that somebody has changed by hand, or merged."""


def places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what holds each value of some JSON, and where in it the value is."""
    for at, each in found.items() if isinstance(found, dict) else enumerate(found):
        yield found, at
        if isinstance(each, dict | list):
            yield from places(each)


def compared(before: Registry, after: Registry) -> Report:
    """Return what is found when the domain of a lock becomes another."""
    return check(after, catalogue_of(before), catalogue_of(after))


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], str]] = {
    "a field with a default is new": ({}, {"note": (str, "")}, [{}], ""),
    "a field without one is new": ({}, {"note": str}, [{}], "note: old events have no value,"),
    "a field is gone": (
        {"note": str},
        {},
        [{"note": "said"}],
        "note: old events have text, which no",
    ),
    "a field has another name": (
        {"note": str},
        {"remark": (str, "")},
        [{"note": "said"}],
        "note: old events have text, which no field reads any more",
    ),
    "a field has another name, and an alias": (
        {"note": str},
        {"remark": (str, Field(validation_alias=AliasChoices("remark", "note")))},
        [{"note": "said"}],
        "",
    ),
    "a default went": (
        {"note": (str, "")},
        {"note": str},
        [{}],
        "note: old events have no value in",
    ),
    "a type became wider": ({"n": int}, {"n": (int | None, None)}, [{"n": 1}], ""),
    "a member of a union went": (
        {"n": int | str},
        {"n": int},
        [{"n": "a"}],
        "n: old events have text, the code wants integer",
    ),
    "a value went": (
        {"by": Literal["mail", "telegraph"]},
        {"by": Literal["mail"]},
        [{"by": "telegraph"}],
        "by: old events have telegraph, which the code refuses",
    ),
    "a field of a field is new": (
        {"lines": tuple[Line, ...]},
        {"lines": tuple[LineOfMore, ...]},
        [{"lines": [{"sku": "a", "quantity": 1}]}],
        "lines[].price: old events have no value, and the code has no default",
    ),
    "a model became another": (
        {"price": int},
        {"price": Priced},
        [{"price": 1}],
        "price: old events have integer, the code wants model",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_at_the_same_version_are_compared(change: str) -> None:
    old, new, written, expected = CHANGES[change]
    before, after = domain(happened(**old)), domain(happened(**new))
    lines = told(compared(before, after))
    reads = []
    for fields in written:
        data = {"id": "a", **fields}
        assert before.decode("Happened", json.dumps(data).encode(), 1, "thing-a", 0)
        try:
            [event] = after.decode("Happened", json.dumps(data).encode(), 1, "thing-a", 0)
        except UnreadableEvent:
            reads.append(False)
        else:
            kept = list(event.model_dump(mode="json").values())
            reads.append(all(value in kept for value in data.values()))
    assert all(reads) == (not expected)
    assert [line.startswith(f"Happened 1: {expected}") for line in lines] == [True] * bool(expected)


class Amount(Message):
    cents: int


class AmountIn(Message):
    cents: int
    currency: str = "EUR"


class InDollars(Message):
    cents: int
    currency: str = "USD"


DEFAULTS: dict[str, tuple[Any, Any, list[str]]] = {
    "another one": (
        (str, "EUR"),
        (str, "USD"),
        [
            'field: old events have no value in some cases, which was read as "EUR",'
            ' and would now be read as "USD"'
        ],
    ),
    "of a model within": (
        AmountIn,
        InDollars,
        [
            'field.currency: old events have no value in some cases, which was read as "EUR",'
            ' and would now be read as "USD"'
        ],
    ),
    "the same": ((Decimal, Decimal("1.50")), (Decimal | None, Decimal("1.50")), []),
    "a model that has a field more": ((Amount, Amount(cents=1)), (AmountIn, AmountIn(cents=1)), []),
    "one that is made each time": ((list[int], []), (list[int], Field(default_factory=list)), []),
    "a set": ((frozenset[str], frozenset("abcdef")), (frozenset[str], frozenset("fedcba")), []),
}


@pytest.mark.parametrize("change", DEFAULTS)
def test_a_changed_default_of_old_events_is_refused(change: str) -> None:
    old, new, expected = DEFAULTS[change]
    before, after = domain(happened(field=old)), domain(happened(field=new))
    assert [line.partition("; ")[0] for line in told(compared(before, after))] == [
        f"Happened 1: {each}" for each in expected
    ]


def test_the_proposed_upcaster_keeps_the_old_default() -> None:
    before, after = domain(happened(field=(str, "EUR"))), domain(happened(field=(str, "USD")))
    for each, read_as in (before, "EUR"), (after, "USD"):
        [event] = each.decode("Happened", b'{"id":"a"}', 1, "thing-a", 0)
        assert event.model_dump()["field"] == read_as
    [broken] = compared(before, after).broken
    code = {"__name__": __name__, "upcaster": upcaster, "Any": Any}
    exec(broken.code, code)
    pasted = domain(
        happened(2, field=(str, "USD")), upcasters={("Happened", 1): code["happened_1"].upcast}
    )
    for data, read_as in (b'{"id":"a"}', "EUR"), (b'{"id":"a","field":"CHF"}', "CHF"):
        [event] = pasted.decode("Happened", data, 1, "thing-a", 0)
        assert event.model_dump()["field"] == read_as
    assert not compared(before, pasted).broken


def test_a_lock_without_defaults_is_behind() -> None:
    code = catalogue_of(domain(happened(field=(str, "EUR"))))
    lock = catalogue_of(domain(happened(field=(str, "EUR"))))
    del lock.events["Happened"].versions[1]["properties"]["field"]["default"]
    report = check(domain(happened(field=(str, "EUR"))), lock, code)
    assert not report.broken
    assert report.behind == ["Happened 1 has a compatible change"]


def test_a_removed_event_is_still_on_the_log() -> None:
    before, after = domain(happened(note=str)), domain()
    [line] = told(compared(before, after))
    assert line.startswith("Happened 1: no class declares it")
    with pytest.raises(UnknownEventType):
        after.decode("Happened", b'{"id":"a","note":"b"}', 1, "thing-a", 0)
    unwanted = domain(upcasters={("Happened", 1): lambda data: None})
    report = compared(before, unwanted)
    assert not report.broken
    assert not report.behind


def test_an_event_that_was_renamed_with_its_category_is_refused() -> None:
    """Its streams would not be read, and so neither would its upcaster."""
    before = catalogue_of(domain(happened()))
    before.events["Happened"].categories = ["matter"]
    del before.events["Kept"]
    into = domain(
        happened(name="Renamed"),
        upcasters={("Happened", 1): lambda data: ("Renamed", data)},
    )
    report = check(into, before, catalogue_of(into))
    assert report.moved == {
        "matter": "Happened is of the category 'thing' now, and streams of 'matter' may be on the"
        " log: give its aggregate the category 'matter' back"
    }
    accepted = taken_up(before, catalogue_of(into), report)
    assert not check(into, accepted, catalogue_of(into)).moved
    given_up = domain(upcasters={("Happened", 1): lambda data: None})
    assert not check(given_up, before, catalogue_of(given_up)).moved
    before.events["Happened"].categories = ["thing"]
    assert not check(into, before, catalogue_of(into)).moved


def test_a_version_needs_an_upcaster_from_the_one_before() -> None:
    before, after = domain(happened(amount=int)), domain(happened(2, total=int))
    report = compared(before, after)
    assert [line.partition(";")[0] for line in told(report)] == [
        "Happened 1: the code has version 2, and no upcaster reads this one",
        "Happened 1: total: old events have no value, and the code has no default",
        "Happened 1: amount: old events have integer, which no field reads any more",
    ]
    [broken] = report.broken
    code = {"__name__": __name__, "upcaster": upcaster, "Any": Any}
    exec(broken.code, code)
    pasted = domain(happened(2, total=int), upcasters={("Happened", 1): code["happened_1"].upcast})
    [event] = pasted.decode("Happened", b'{"id":"a","amount":4}', 1, "thing-a", 0)
    assert event.model_dump() == {"id": "a", "total": 4}
    assert not compared(before, pasted).broken


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("LineAdded", "line_added_1"),
        ("order.placed-v1", "order_placed_v1_1"),
        ("2fa ²", "_2fa___1"),
        ('"quoted"\\', "_quoted___1"),
    ],
)
def test_the_proposed_upcaster_is_valid_code_whatever_the_event_is_called(
    name: str, function: str
) -> None:
    code = {"__name__": __name__, "upcaster": upcaster, "Any": Any}
    exec(skeleton(name, 1, []), code)
    assert code[function].name == name


def test_the_proposed_upcaster_keeps_a_field_that_becomes_personal_data() -> None:
    clear, personal = domain(happened(who=str)), domain(happened(who=Personal[str]))
    for before, after in ((clear, personal), (personal, clear)):
        code = compared(before, after).broken[0].code
        assert code.endswith("-> dict[str, Any]:\n    return data")


def test_a_version_that_goes_back_is_refused() -> None:
    before, after = domain(happened(2, amount=int)), domain(happened(1, amount=int))
    assert "the code is back at version 1" in told(compared(before, after))[0]
    third = catalogue_of(domain(happened(3, amount=int)))
    third.events["Happened"].versions.update(catalogue_of(before).events["Happened"].versions)
    [line] = told(check(after, third, catalogue_of(after)))  # of the last alone
    assert "keep version 3, or raise it to 4" in line


def test_if_a_version_must_be_raised_nothing_else_is_reported() -> None:
    upcasters: dict[tuple[str, int], Upcast] = {("Happened", 1): lambda data: data | {"total": 1}}
    before = catalogue_of(domain(happened()))
    second = domain(happened(2, total=int), upcasters=upcasters)
    lock = taken_up(before, catalogue_of(second), check(second, before, catalogue_of(second)))
    third = domain(happened(2, total=int, tax=int), upcasters=upcasters)
    [line] = told(check(third, lock, catalogue_of(third)))
    assert line.startswith("Happened 2: tax: old events have no value")


def test_versions_stay_in_the_lock() -> None:
    one = domain(happened(amount=int))
    two = domain(
        happened(2, total=int),
        upcasters={("Happened", 1): lambda data: {"id": data["id"], "total": data["amount"]}},
    )
    lock = catalogue_of(one)
    report = check(two, lock, catalogue_of(two))
    assert report.behind == ["Happened has version 2"]
    lock = taken_up(lock, catalogue_of(two), report)
    assert sorted(lock.events["Happened"].versions) == [1, 2]
    assert lock.events["Happened"].version == 2
    assert check(two, lock, catalogue_of(two)) == Report()
    assert len(check(one, lock, catalogue_of(one)).broken) == 1


def test_a_lock_is_read_back_unchanged(tmp_path: Path) -> None:
    lock = catalogue_of(Registry.load("domain"))
    lock.events["²"] = lock.events["Ü"] = lock.events["OrderPaid"]
    file = tmp_path / "lock"
    file.write_text(text_of(lock))
    assert read(file) == lock
    assert text_of(read(file) or Catalogue()) == file.read_text()


EMPTY = '{"format": 1, "events": {}, "integration_events": {}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '"a"', "<<<<<<< ours\n" + EMPTY, EMPTY.replace("1", "3")),
        EMPTY.replace("1", "0"),
        '{"format": 1}',
        *(
            EMPTY.replace("{}", f'{{"A": {{"version": 1, "versions": {each}}}}}', 1)
            for each in (
                *("[]", "{}", '{"2": {}}', '{"1": {}}', '{"1": 5}'),
                '{"1": {"type": "object", "properties": 5}}',
                '{"1": {"type": "object", "properties": {"a": 5}}}',
                '{"1": {"type": "object", "properties": {"a": {"multipleOf": 0}}}}',
                '{"1": {"type": "object", "properties": {"a": {"$ref": "#/$defs/B"}}}}',
            )
        ),
    ],
)
def test_a_damaged_lock_is_reported(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lock"
    file.write_text(text)
    with pytest.raises(StartError):
        read(file)
    file.write_text(EMPTY)
    assert read(file) == Catalogue()


def test_a_lock_with_any_odd_value_is_refused_or_compared(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    before = catalogue_of(domain(happened(1, **KINDS)))
    after = domain(happened(2, **KINDS), upcasters={("Happened", 1): lambda data: data})
    code = catalogue_of(after)
    whole = json.loads(text_of(before))
    recursive = {"Itself": {"$ref": "#/$defs/Itself"}}
    whole["events"]["Happened"]["versions"]["1"]["$defs"] |= recursive
    refused, cases = 0, list(product(places(whole), ODD))
    for (holder, at), odd in Random(0).sample(cases, 600):
        was, holder[at] = holder[at], odd
        file.write_text(json.dumps(whole))
        holder[at] = was
        try:
            lock = read(file)
        except StartError:
            refused += 1
        else:
            report = check(after, lock or Catalogue(), code)
            assert all(told(report))
            assert text_of(taken_up(lock or Catalogue(), code, report))
    assert 300 < refused < 600


def test_the_released_events_of_the_reference_domain_can_be_read() -> None:
    lock, registry = read(ROOT / "events.lock.json"), Registry.load("domain")
    assert lock is not None
    assert check(registry, lock, catalogue_of(registry)) == Report(), (
        "the lock does not fit the code: see `rayfold check`"
    )


UPCASTERS: dict[str, tuple[Upcast, str]] = {
    "that forgets a field": (
        lambda data: {"id": data["id"]},
        "total: its upcaster gives it no value",
    ),
    "that takes what never was": (lambda data: data | {"total": data["sum"]}, "reads 'sum'"),
    "that gives another kind": (lambda data: data | {"total": [1]}, "total: its upcaster gives"),
    "that makes what nobody knows": (lambda data: ("Other", data), "returns Other, which"),
    "that is right": (lambda data: data | {"total": data["amount"]}, ""),
    "that gives what only a sample has": (lambda data: data | {"total": "text"}, ""),
    "that breaks at what only a sample has": (lambda data: data | {"total": 1 / 0}, ""),
    "that looks values up": (lambda data: data | {"total": {7: 1}[data["amount"]]}, ""),
    "that wants no event": (lambda data: None, ""),
}


@pytest.mark.parametrize("upcast", UPCASTERS)
def test_an_upcaster_is_tried(upcast: str) -> None:
    function, expected = UPCASTERS[upcast]
    before = domain(happened(amount=int))
    lines = told(
        compared(before, domain(happened(2, total=int), upcasters={("Happened", 1): function}))
    )
    assert len(lines) == bool(expected)
    assert expected in "".join(lines)


def _first_and_last(data: dict[str, Any]) -> dict[str, Any]:
    first, last = data["full"].split("x")
    return {"id": data["id"], "first": first, "last": last}


def _of_whoever_is_known(data: dict[str, Any]) -> dict[str, Any]:
    return data if data["full"] == FORGOTTEN else _first_and_last(data)


@pytest.mark.parametrize("function", [_first_and_last, _of_whoever_is_known])
def test_an_upcaster_is_tried_with_forgotten_personal_data(function: Upcast) -> None:
    """Otherwise a release could fail on events of forgotten persons, which nobody tried."""
    before = domain(happened(full=Personal[str]))
    after = happened(2, first=(Personal[str], ""), last=(Personal[str], ""))
    lines = told(compared(before, domain(after, upcasters={("Happened", 1): function})))
    assert bool(lines) == (function is _first_and_last)
    if lines:
        assert "fails on what is left of a forgotten person: ValueError" in "".join(lines)


def test_samples_are_events_of_the_reference_domain() -> None:
    registry = Registry.load("domain")
    for name, locked in catalogue_of(registry).events.items():
        [version] = locked.versions
        found = list(samples(locked.versions[version]))
        assert len(found) == 2, name
        for sample in found:
            registry.decode(name, json.dumps(sample).encode(), version, "a", 0)
