"""The difference of two states changes the rows of one into those of the other."""

# ruff: noqa: RUF012  # pydantic copies defaults

from __future__ import annotations

from datetime import UTC, date, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.host.state.rows import Unstorable, check, difference, grouped, state_of
from domain.orders.lines import Line, Lines
from rayfold import AsJson, Message, RowsOf, UtcDatetime
from rayfold.state_layout import layout_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Leaf(Message):
    name: str = ""
    weights: tuple[Decimal, ...] = ()


class Branch(Message):
    colour: Colour = Colour.RED
    leaves: list[Leaf] = []
    best: Leaf | None = None


class Tree(Message):
    planted: date | None = None
    seen: UtcDatetime | None = None
    age: timedelta = timedelta()
    rings: int = 0
    branches: tuple[Branch, ...] = ()
    names: dict[UUID, str] = {}
    kinds: frozenset[str] = frozenset()
    noted: Annotated[dict[str, Any] | None, AsJson("free text of visitors")] = None
    lines: Annotated[Lines, RowsOf(Line)] = Lines()
    main: Branch | None = None


LAYOUT = layout_of("tree", Tree)

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
leaves = st.builds(
    Leaf,
    name=text,
    weights=st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
)
branches = st.builds(
    Branch,
    colour=st.sampled_from(Colour),
    leaves=st.lists(leaves, max_size=3),
    best=st.none() | leaves,
)
lines = st.lists(
    st.builds(Line, sku=text, quantity=st.integers(), unit_price_cents=st.integers()),
    unique_by=lambda line: line.sku,
    max_size=3,
).map(Lines)
trees = st.builds(
    Tree,
    planted=st.none() | st.dates(),
    seen=st.none() | st.datetimes(timezones=st.just(UTC)),
    age=st.timedeltas(),
    rings=st.integers(),
    branches=st.lists(branches, max_size=3).map(tuple),
    names=st.dictionaries(st.uuids(), text, max_size=3),
    kinds=st.frozensets(text, max_size=3),
    noted=st.none() | st.dictionaries(text, st.integers() | text, max_size=2),
    lines=lines,
    main=st.none() | branches,
)


class Tables:
    """Rows of one aggregate, as Postgres would have them."""

    def __init__(self) -> None:
        self.root: list[Any] = []
        self.rows: dict[str, dict[tuple[int, ...], list[Any]]] = {}

    def apply(self, before: Tree | None, after: Tree) -> int:
        """Return how many rows that wrote or removed."""
        found = difference(LAYOUT, before, after)
        self.root = found.root
        for table, written in found.written.items():
            self.rows.setdefault(table, {}).update(written)
        for table, removed in found.removed.items():
            for key in removed:
                del self.rows[table][key]
        return sum(map(len, found.written.values())) + sum(map(len, found.removed.values()))

    def state(self) -> Any:
        lists = {name: grouped(sorted(rows.items())) for name, rows in self.rows.items()}
        return state_of(LAYOUT, self.root, lists)


def test_the_model_is_laid_out_in_the_expected_tables() -> None:
    assert LAYOUT.mistakes == ()
    assert [table.name for table in LAYOUT.tables] == [
        "tree",
        "tree_branches",
        "tree_branches_leaves",
        "tree_branches_leaves_weights",
        "tree_branches_best_weights",
        "tree_names",
        "tree_kinds",
        "tree_lines",
        "tree_main_leaves",
        "tree_main_leaves_weights",
        "tree_main_best_weights",
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(trees, min_size=1, max_size=3))
def test_rows_change_with_the_state(states: list[Tree]) -> None:
    tables, before = Tables(), None
    for state in states:
        check(LAYOUT, state)
        tables.apply(before, state)
        assert tables.state() == state
        before = state


def test_unchanged_rows_are_not_written() -> None:
    many = tuple(Branch(leaves=[Leaf(name=str(n))]) for n in range(50))
    before = Tree(branches=many)
    tables = Tables()
    tables.apply(None, before)
    after = before.replace(branches=(*many[:49], Branch(colour=Colour.BLUE)))
    assert tables.apply(before, after) == 2  # the branch, and the leaf that it has no more
    assert tables.state() == after


def test_a_value_that_could_not_be_read_back_is_refused() -> None:
    with pytest.raises(Unstorable, match="U\\+0000"):
        difference(LAYOUT, None, Tree(kinds=frozenset({"a\0"})))
    with pytest.raises(Unstorable, match="does not fit its model: rings: Input should") as refused:
        check(LAYOUT, Tree.model_construct(rings="three"))
    assert "three" not in str(refused.value)


class Priced(Message):
    price: Decimal = Decimal(0)


def test_a_number_that_postgres_would_round_to_0_is_refused() -> None:
    layout = layout_of("priced", Priced)
    with pytest.raises(Unstorable, match="price: Postgres keeps 131072 digits"):
        difference(layout, None, Priced(price=Decimal("1E+131072")))


class Grove(Message):
    heights: tuple[int, ...] = ()

    @cached_property
    def highest(self) -> int:
        return max(self.heights)


def test_cached_properties_of_a_state_are_not_stored() -> None:
    state = Grove(heights=(1, 3))
    assert state.highest == 3
    check(layout_of("grove", Grove), state)
