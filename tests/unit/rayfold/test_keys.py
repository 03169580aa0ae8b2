"""Keys as text: equal values have the same one, and no two values share one."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from rayfold import Cents, UtcDatetime, key_text
from rayfold.keys import may_be_none, scalar_of
from tests.generated.field_types import ORDERED, FieldType, Mixed, OldStyle, Rate, Shade, Size, Tone

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_text_that_is_not_unicode_cannot_be_a_key() -> None:
    # No log has such a text, and no store takes it: only code makes one.
    with pytest.raises(ValueError, match="surrogates not allowed"):
        key_text("a\ud800")


def test_none_cannot_be_a_key() -> None:
    # Else a query, or a command, for nothing in particular would find who is called "None".
    with pytest.raises(ValueError, match="None cannot be a key"):
        key_text(None)


@pytest.mark.parametrize(
    ("annotation", "perhaps"),
    [
        (str, False),
        (Literal["a", "b"], False),
        (str | int, False),
        (str | None, True),
        (Optional[int], True),  # noqa: UP045
        (Annotated[str | None, Field(max_length=3)], True),
        (Annotated[Annotated[int | None, Field(ge=1)], Field(le=3)], True),
        (Literal["a", None], True),
        (None, True),
    ],
)
def test_a_field_that_may_be_none_is_found(annotation: Any, perhaps: bool) -> None:
    assert may_be_none(FieldInfo.from_annotation(annotation)) is perhaps


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_an_instant_beyond_the_calendar_cannot_be_a_value_or_a_key(text: str) -> None:
    with pytest.raises(ValidationError, match="outside the years 1 to 9999"):
        TypeAdapter(UtcDatetime).validate_python(text)
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        key_text(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("1E+3"), Decimal("1000")),
        (Decimal("-0"), Decimal("0")),
        (0.0, -0.0),
        (AT, AT.astimezone(timezone(timedelta(hours=2)))),
        (Shade.LIGHT, "light"),
        (OldStyle.ONE, "one"),
        (Size.SMALL, -1),
    ],
)
def test_equal_values_have_one_text(one: Any, other: Any) -> None:
    assert one == other
    assert key_text(one) == key_text(other)


@pytest.mark.parametrize("kind", ORDERED, ids=lambda kind: str(kind.annotation)[:40])
@given(data=st.data())
def test_the_text_of_a_key_stands_for_one_value_only(kind: FieldType, data: st.DataObject) -> None:
    values = data.draw(st.lists(kind.values, max_size=20))
    by_text = defaultdict(set)
    for value in values:
        by_text[key_text(value)].add(value)
    assert all(len(same) == 1 for same in by_text.values())


@pytest.mark.parametrize("kind", ORDERED, ids=lambda kind: str(kind.annotation)[:40])
@given(data=st.data())
def test_the_text_of_a_key_in_a_path_is_read_as_the_key(
    kind: FieldType, data: st.DataObject
) -> None:
    value = data.draw(kind.values)
    if kind.annotation is timedelta:
        return  # in a path it is an ISO 8601 duration
    assert TypeAdapter(kind.annotation).validate_strings(key_text(value)) == value


Sku = NewType("Sku", str)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str | None, str),
        (Optional[UtcDatetime], datetime),  # noqa: UP045
        (Annotated[Cents | None, "money"], int),
        (Shade, str),
        (Size | None, int),
        (Tone, str),
        (Mixed, None),
        (Rate, None),
        (Literal["a", "b"], str),
        (Sku, str),
        (Decimal, Decimal),
        (list[str], None),
        (dict[str, str], None),
        (int | str, None),
        (Literal["a", 1], None),
        (bytes, None),
        (Any, None),
    ],
)
def test_types_that_may_be_a_key_or_an_index(annotation: Any, kind: type | None) -> None:
    found = scalar_of(FieldInfo.from_annotation(annotation))
    assert (found.kind if found else None) == kind


def test_bounds_are_seen_however_they_are_declared() -> None:
    for annotation in (Annotated[int, Field(ge=0, le=9)], Annotated[int, Field(gt=-1, lt=10)]):
        found = scalar_of(FieldInfo.from_annotation(annotation | None))
        assert found is not None
        assert (found.least, found.most) in ((0, 9), (-1, 10))
