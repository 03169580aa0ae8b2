"""What a change of a state's model does to its rows: kept, or refused with what to write."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import SimpleNamespace
from typing import Annotated, Any, cast
from uuid import UUID

import pytest
from pydantic import Field, create_model

from actors.host.state.migration_plan import Migration, compare
from actors.host.state.tables import Found
from rayfold import AsJson, Message, RenamedFrom
from rayfold.aggregate import AggregateType
from rayfold.state_layout import layout_of

Small = Annotated[int, Field(ge=0, le=1000)]


class Colour(StrEnum):
    RED = "red"


class Card(Message):
    number: str
    cents: int = 0


class NewCard(Message):
    digits: Annotated[str, RenamedFrom("number")]
    cents: int = 0
    bank: str = "ours"
    note: str | None = None


class Bank(Message):
    name: str = ""
    cards: tuple[Card, ...] = ()


class Holder(Message):
    name: str = ""


def state(**fields: Any) -> type[Message]:
    """A state with such fields, each a type, or a type with its default."""
    given = {
        name: each if isinstance(each, tuple) else (each, ...) for name, each in fields.items()
    }
    return cast(type[Message], create_model("State", __base__=Message, **given))


def planned(before: type[Message], after: type[Message]) -> Migration:
    found = Found(1, layout_of("account", before).described())
    aggregate = SimpleNamespace(category="account", layout=lambda: layout_of("account", after))
    return compare(cast(AggregateType, aggregate), found)


NARROWER = [
    (str, int),
    (str, UUID),
    (str, date),
    (str, bool),
    (int, Small),
    (int, float),
    (float, int),
    (float, Decimal),
    (datetime, date),
    (UUID, int),
    (bool, int),
    (Annotated[dict[str, Any], AsJson("a form")], str),
]


@pytest.mark.parametrize(("was", "now"), NARROWER, ids=str)
def test_a_type_that_cannot_hold_all_old_values_is_refused(was: Any, now: Any) -> None:
    plan = planned(state(field=was), state(field=now))
    [told] = plan.refused
    assert "that cannot be derived" in told
    assert "add another of the new type beside it" in told


@pytest.mark.parametrize(
    ("was", "now"), [(Small, int), (Small, str), (int, str), (UUID, str), (bool, str), (date, str)]
)
def test_values_are_converted_to_a_wider_type(was: Any, now: Any) -> None:
    plan = planned(state(field=was), state(field=now))
    assert plan.refused == []
    assert "of" in plan.said[0]


def test_a_new_field_without_a_value_for_old_rows_is_refused() -> None:
    for plan in (
        planned(state(name=str), state(name=str, limit=int)),
        planned(state(name=str), state(name=str, bank=create_model("B", name=(str, ...)))),
        planned(state(cards=(list[str], [])), state(cards=(dict[str, str], {}))),
        planned(state(cards=(list[Colour], [])), state(cards=(list[Card], []))),
    ):
        [told] = plan.refused
        assert "give the field a default" in told


def test_an_optional_field_cannot_become_required() -> None:
    optional = state(name=(str | None, None))
    for after in (state(name=str), state(title=Annotated[str, RenamedFrom("name")])):
        [told] = planned(optional, after).refused
        assert "keep it optional" in told


def test_removed_columns_stay_until_they_are_dropped() -> None:
    before = state(name=str, bank=(Bank, Bank()), tags=(list[str], []))
    plan = planned(before, state(name=str))
    assert plan.refused == []
    assert plan.left == {
        "account": ["bank_name"],
        "account_bank_cards": [],
        "account_tags": [],
    }
    assert sorted(plan.said) == [
        "stop using account.bank_name: it stays until --drop",
        "stop using the table account_bank_cards: it stays until --drop",
        "stop using the table account_tags: it stays until --drop",
    ]
    assert not any("DROP COLUMN" in each or "DROP TABLE" in each for each in plan.statements)


def test_a_list_by_another_name_keeps_its_rows() -> None:
    plan = planned(
        state(cards=(tuple[Card, ...], ())),
        state(wallet=(Annotated[tuple[NewCard, ...], RenamedFrom("cards")], ())),
    )
    assert plan.refused == []
    assert plan.said == ["make the table account_wallet, with the rows of account_cards"]
    assert [(table.name, before) for table, before in plan.moves] == [
        ("account_wallet", "account_cards")
    ]


def test_a_model_by_another_name_keeps_its_columns_and_lists() -> None:
    plan = planned(
        state(bank=(Bank, Bank())), state(house=(Annotated[Bank, RenamedFrom("bank")], Bank()))
    )
    assert plan.refused == []
    assert sorted(plan.said) == [
        "add account.house_name, with the values of bank_name",
        "make the table account_house_cards, with the rows of account_bank_cards",
    ]


def test_names_that_changed_in_two_releases_are_followed_step_by_step() -> None:
    house = Annotated[Holder, RenamedFrom("bank")]
    title = create_model(
        "Titled", __base__=Message, title=(Annotated[str, RenamedFrom("name")], "")
    )
    plan = planned(
        state(house=(house, Holder())),
        state(house=(Annotated[title, RenamedFrom("bank")], title())),
    )
    assert "add account.house_title, with the values of house_name" in plan.said


def test_a_list_whose_items_lost_something_is_refused_under_any_name() -> None:
    narrow = create_model("Narrow", __base__=Message, number=(int, ...), cents=(int, 0))
    plan = planned(
        state(cards=(tuple[Card, ...], ())),
        state(wallet=(Annotated[tuple[narrow, ...], RenamedFrom("cards")], ())),  # type: ignore[valid-type]
    )
    assert plan.refused
    assert "account_wallet.number is numeric now and was text" in plan.refused[0]


def test_a_name_that_is_used_again_at_once_is_refused() -> None:
    before = state(name=(str, ""), cards=(tuple[Card, ...], ()))
    for after in (
        state(title=(Annotated[str, RenamedFrom("name")], ""), name=(str, "")),
        state(
            cards=(tuple[Card, ...], ()),
            wallet=(Annotated[tuple[Card, ...], RenamedFrom("cards")], ()),
        ),
    ):
        [told] = planned(before, after).refused
        assert "a name that the state still has" in told


def test_a_model_that_becomes_optional_is_present_in_old_rows() -> None:
    [(_, place)] = planned(
        state(holder=(Holder, Holder())), state(holder=(Holder | None, None))
    ).defaults
    assert (place.name, place.default) == ("holder", True)
    for after in (
        state(holder=(Holder, Holder()), bank=(Bank | None, None)),  # a new one is not
        state(
            holder=(Holder, Holder()),
            bank=(Annotated[Bank | None, RenamedFrom("other")], None),
        ),
    ):
        [(_, place)] = planned(state(holder=(Holder, Holder())), after).defaults
        assert (place.name, place.default) == ("bank", False)


def test_the_same_state_needs_nothing() -> None:
    both = state(name=str, bank=(Bank, Bank()), tags=(list[str], []))
    plan = planned(both, both)
    assert (plan.said, plan.refused, plan.statements, plan.number) == ([], [], [], 1)
