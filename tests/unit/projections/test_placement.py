"""Which replica holds which views."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.memory.placement import placement_of


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 6), min_size=1))
def test_each_view_is_held_as_often_as_wanted_and_the_first_replica_holds_all(
    wanted: dict[str, int],
) -> None:
    layers = placement_of(wanted)
    assert layers[0] == list(wanted)
    for view, number in wanted.items():
        assert sum(view in layer for layer in layers) == number
    assert all(layers)
