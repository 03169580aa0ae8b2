"""The position up to which a publication has finished."""

from __future__ import annotations

from projections.publications.window import Window


def test_events_that_are_not_published_take_no_memory_while_one_event_blocks_the_window() -> None:
    window = Window(0, 10)
    first = window.read(1)
    window.sent(first)
    for position in range(2, 1_000):
        window.read(position)
    last = window.read(1_000, created=7)
    window.sent(last)
    window.advance()
    assert window.done == 0
    assert len(window) == 3 - 1  # the first, and what came since
    window.finished(first)
    assert window.done == 1
    assert window.oldest is last
    assert last.created == 7
    window.finished(last)
    assert window.done == 1_000
