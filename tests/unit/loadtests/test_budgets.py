"""What `make bench` makes of its figures."""

from __future__ import annotations

import pytest

from loadtests.bench.budgets import at_least, at_most


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(None, "not measured"), (1.9, "short"), (2.0, "pass"), (2.9, "pass"), (3.0, "pass, next too")],
)
def test_a_figure_with_a_minimum(value: float | None, verdict: str) -> None:
    assert at_least("writes", value, 2, 3).verdict == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.61, "short"), (0.6, "pass"), (0.41, "pass"), (0.4, "pass, next too")]
)
def test_a_figure_with_a_maximum(value: float, verdict: str) -> None:
    assert at_most("CPU", value, 0.6, 0.4).verdict == verdict


def test_only_a_figure_that_was_not_measured_has_a_note() -> None:
    assert at_least("copy", None, 20, note="left out").note == "left out"
    assert at_least("copy", 30.0, 20, note="left out").note == ""
    assert at_least("copy", 30.0, 20).verdict == "pass"
