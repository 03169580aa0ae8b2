"""How a row in a store differs from the log."""

from __future__ import annotations

import pytest

from projections.operations.differences import StoredRow, compare
from rayfold import View


class Bags(View, name="bags", key="bag"):
    """A view with a set: its order in a document means nothing."""

    bag: str
    things: frozenset[str]


@pytest.mark.parametrize(
    ("body", "differs"),
    [
        (b'{"bag":"a","things":["y","x"],"revision":0}', False),
        (b'{"bag":"a","things":["x"],"revision":0}', True),
        (b'{"bag":"a","things":7,"revision":0}', True),
        (b"no row at all \xff", True),
    ],
)
def test_a_set_in_another_order_is_no_difference_and_an_invalid_row_is_one(
    body: bytes, differs: bool
) -> None:
    expected = {"a": StoredRow(b'{"bag":"a","things":["x","y"],"revision":0}', 1, 1)}
    found = compare("redis", Bags.__rayfold__, expected, {"a": StoredRow(body, 1, 1)}, 1)
    assert [each.key for each in found] == ["a"] * differs
