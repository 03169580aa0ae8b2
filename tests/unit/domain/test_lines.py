"""The collections of an order's lines are what plain lists and dicts would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.orders.lines import Entries, Line, Lines

lines = st.builds(
    Line, sku=st.sampled_from("abcd"), quantity=st.integers(1, 9), unit_price_cents=st.just(5)
)
steps = st.lists(st.one_of(lines, st.sampled_from("abcd")))


@given(steps)
def test_lines_are_merged_by_sku_in_the_order_they_came(done: list[Line | str]) -> None:
    model: dict[str, int] = {}
    built = Lines()
    for step in done:
        if isinstance(step, Line):
            model[step.sku] = model.get(step.sku, 0) + step.quantity
            built = built.add(step)
        else:
            model.pop(step, None)
            built = built.remove(step)
    assert [(line.sku, line.quantity) for line in built] == list(model.items())
    assert len(built) == len(model)


@given(steps)
def test_entries_are_kept_apart(done: list[Line | str]) -> None:
    model: list[Line] = []
    built = Entries()
    for step in done:
        if isinstance(step, Line):
            model.append(step)
            built = built.add(step)
        else:
            model = [line for line in model if line.sku != step]
            built = built.remove(step)
    assert list(built) == model
