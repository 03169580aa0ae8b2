"""What `rayfold check` says of integration events."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import ConfigDict, Field, create_model
from pydantic.dataclasses import dataclass as pydantic_dataclass

from deploy.authoring.catalogue.checking import check
from deploy.authoring.catalogue.lock import (
    Catalogue,
    Locked,
    schema_of,
)
from rayfold import (
    IntegrationEvent,
    Registry,
)
from tests.unit.deploy.authoring.domains import domain, told


def told_to_others(version: int, **fields: Any) -> type[IntegrationEvent]:
    """Return an integration event class with an id and these fields."""
    return create_model(
        "Told",
        __base__=IntegrationEvent,
        __cls_kwargs__={"name": "told", "version": version},
        id=(str, ...),
        **{each: (kind, ...) for each, kind in fields.items()},
    )


def of_others(version: int, **fields: Any) -> Catalogue:
    """Return a catalogue with that integration event."""
    model = told_to_others(version, **fields)
    return Catalogue({}, {"told": Locked(version, {version: schema_of(model)})})


@pytest.mark.parametrize(
    ("present", "by_processes", "by_handlers"),
    [
        (of_others(1, amount=int | None), 0, 0),
        (of_others(1, total=int), 2, 2),
        (of_others(2, total=int), 1, 0),  # a process's are read from the log, without an upcaster
        (of_others(2), 0, 0),
        (Catalogue(), 0, 0),  # nothing is published any more
    ],
)
def test_integration_events_of_processes_are_checked_because_they_are_on_the_log(
    present: Catalogue, by_processes: int, by_handlers: int
) -> None:
    lock, with_processes, without = of_others(1, amount=int), Registry.load("domain"), domain()
    assert with_processes.processes
    assert len(told(check(with_processes, lock, present))) == by_processes
    assert len(told(check(without, lock, present))) == by_handlers


class ByAlias(IntegrationEvent, name="by-alias", serialize_by_alias=True):
    """The base of integration events that others get under their fields' aliases."""


def by_alias(**fields: Any) -> Catalogue:
    """Return a catalogue with an integration event of these fields."""
    named: Any = {"name": "told"}
    kept: Any = {name: (kind, ...) for name, kind in fields.items()}
    model = create_model("Told", __base__=ByAlias, __cls_kwargs__=named, **kept)
    return Catalogue({}, {"told": Locked(1, {1: schema_of(model)})})


Sum = Annotated[int, Field(alias="sumInCents")]


@pydantic_dataclass(frozen=True, config=ConfigDict(serialize_by_alias=True))
class Price:
    """A part of an integration event that says by itself how it is told."""

    in_cents: Sum


class PricedNews(IntegrationEvent, name="priced"):
    price: Price


def test_a_dataclass_is_compared_by_the_names_in_its_json() -> None:
    definition = PricedNews.__rayfold__
    assert definition.mistakes() == []
    assert definition.encode(PricedNews(price=Price(sumInCents=1))) == b'{"price":{"sumInCents":1}}'
    told_as = schema_of(PricedNews)["$defs"]["Price"]
    assert (list(told_as["properties"]), told_as["required"]) == (["sumInCents"], ["sumInCents"])


@pytest.mark.parametrize(
    ("present", "faults"),
    [
        (by_alias(sum_in_cents=Sum), 0),
        (by_alias(cents=Sum), 0),  # others are told the same
        (by_alias(sum_in_cents=Annotated[int, Field(alias="sum")]), 2),
        (by_alias(sum_in_cents=int), 2),
    ],
)
def test_an_integration_event_is_compared_by_the_names_in_its_json(
    present: Catalogue, faults: int
) -> None:
    lock = by_alias(sum_in_cents=Sum)
    assert len(told(check(Registry.load("domain"), lock, present))) == faults


def test_a_lock_with_the_names_in_the_code_is_behind() -> None:
    lock, code = of_others(1, sum_in_cents=Sum), by_alias(sum_in_cents=Sum)
    del lock.integration_events["told"].versions[1]["properties"]["id"]
    lock.integration_events["told"].versions[1]["required"].remove("id")
    report = check(Registry.load("domain"), lock, code)
    assert (report.broken, report.behind) == ([], ["told 1 has a compatible change"])
