"""Whether a function reads the clock or random numbers: local names do not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import wraps
from typing import Any
from uuid import uuid4

import pytest

from rayfold.purity import drawing


def of_a_lambda(row: Any, event: Any) -> Any:
    return sorted(event.dates, key=lambda date: date.today())


def of_a_function_within(row: Any, event: Any) -> Any:
    def shown(date: Any) -> Any:
        return date.today()

    return shown(event.at)


def of_a_comprehension(row: Any, event: Any) -> Any:
    return [date.today() for date in event.dates]


def of_its_own(row: Any, event: Any) -> Any:
    date = event.at
    return date.today()


@dataclass
class Unhashable:
    """A function of an author's that has no code of its own, and no hash."""

    by: int = 1

    def __call__(self, row: Any, event: Any) -> Any:
        return row


@pytest.mark.parametrize(
    "function",
    [of_a_lambda, of_a_function_within, of_a_comprehension, of_its_own, Unhashable(), len, None],
)
def test_a_local_name_is_not_taken_for_the_module(function: Callable[..., Any] | None) -> None:
    assert drawing("it", function) == []


def asked_within(row: Any, event: Any) -> Any:
    def today() -> date:
        return date.today()

    return today()


def handed_on(row: Any, event: Any) -> Any:
    return sorted(event.dates, key=lambda _: uuid4())


@wraps(asked_within)
def wrapped(*given: Any) -> Any:
    return given


@pytest.mark.parametrize(
    ("function", "called"),
    [(asked_within, "date.today"), (wrapped, "date.today"), (handed_on, "uuid4")],
)
def test_calls_in_a_nested_function_count(function: Callable[..., Any], called: str) -> None:
    [sentence] = drawing("it", function)
    assert sentence.startswith(f"it calls {called}, ")
