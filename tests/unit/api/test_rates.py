"""Rates: how many requests go through, when the next may come, and what is remembered."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from api.http.auth import Caller, Role
from api.http.rates import Rates, Window

ADA, BOB = ("ada",), ("bob",)


def test_earlier_requests_count_less_and_less() -> None:
    window = Window(parse("4/minute"), 100.0)
    assert [window.count(ADA, 130.0) for _ in range(5)] == [None] * 4 + [30.0]
    assert window.count(BOB, 130.0) is None
    assert window.count(ADA, 161.0) is None
    # Once a quarter of the next minute is over three of the four count still.
    assert window.count(ADA, 161.0) == 14.0
    assert [window.count(ADA, 175.1) is None for _ in range(2)] == [True, False]
    # Two minutes later nothing does.
    assert [window.count(ADA, 300.0) is None for _ in range(5)] == [True] * 4 + [False]


@given(
    most=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 90, allow_nan=False), max_size=60),
)
def test_whoever_waits_as_told_is_let_in_and_no_window_has_more_than_allowed(
    most: int, pauses: list[float]
) -> None:
    window, now, taken = Window(parse(f"{most}/minute"), 0.0), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if (wait := window.count(ADA, now)) is not None:
            assert 0 <= wait <= 120
            now += wait + 0.01
            assert window.count(ADA, now) is None
        taken.append(now)
    for begins in range(0, int(now) + 1, 60):  # as it is told: in each of the stretches
        assert sum(begins <= at < begins + 60 for at in taken) <= most


def test_only_two_windows_are_remembered_and_no_thread_cleans_up() -> None:
    window, threads = Window(parse("4/minute"), 0.0), set(threading.enumerate())
    for minute in range(5):
        for number in range(1000):
            assert window.count((str(number + 1000 * minute),), 60.0 * minute) is None
    assert len(window._sent) + len(window._before) == 2000
    rates = Rates({"default": "5/hour"}, {"default": "5/hour"})
    for number in range(100):
        rates.count(Caller(str(number), Role.READER), "", f"t{number}")
    assert threads.issuperset(threading.enumerate())
