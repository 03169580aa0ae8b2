"""Text as Postgres accepts it: each text has its own form, which can be restored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayfold.runtime.postgres_text import (
    LONGEST,
    indexable,
    is_storable,
    restored,
    storable,
)

texts = st.text(st.characters(exclude_categories=())) | st.text("\0\x1a\ud8000123abc", max_size=9)
"""Surrogates too."""


@given(texts)
def test_stored_text_is_accepted_by_postgres_and_can_be_restored(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode()
    assert is_storable(stored)
    assert restored(stored) == text
    if is_storable(text) and "\x1a" not in text:
        assert stored == text


@given(st.lists(texts | st.builds(lambda a, b: a * b, texts, st.integers(1, 3000)), max_size=5))
def test_indexed_text_fits_and_is_unique(some: list[str]) -> None:
    found = {text: indexable(text) for text in some}
    assert len(set(found.values())) == len(found)
    assert all(len(each.encode()) <= LONGEST for each in found.values())


def test_ordinary_text_is_unchanged() -> None:
    for text in ("order-1", "räksmörgås", "日本語", "a" * 2_600):
        assert storable(text) == indexable(text) == text
        assert is_storable(text)
