"""A document made of columns is, to the byte, the one that the view's model writes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, PlainSerializer, computed_field, field_serializer

from projections.postgres import schema
from projections.postgres.documents import writer_of
from projections.postgres.row_codec import RowCodec
from projections.postgres.rows import Rows
from rayfold import Registry, UtcDatetime, VersionedRow, View, document
from tests.integration.projections.test_poison import dsn

__all__ = ["dsn"]


class Shade(StrEnum):
    LIGHT = "light"


class Old(str, Enum):  # noqa: UP042  # what `str` makes of it is not its value
    SHADE = "old"


class Wide(View, name="wide", key="id"):
    """A field of each kind of column."""

    id: str
    text: str | None
    uuid: UUID | None
    yes: bool
    number: int
    real: float
    day: date | None
    at: datetime
    utc: UtcDatetime | None
    shade: Shade
    many: dict[str, list[int | None]] = Field(default_factory=dict)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2))])
times = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=zones)
rows = st.builds(
    Wide,
    id=texts,
    text=st.none() | texts,
    uuid=st.none() | st.uuids(),
    yes=st.booleans(),
    number=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
    day=st.none() | st.dates(),
    at=times,
    utc=st.none() | times,
    shade=st.just(Shade.LIGHT),
    many=st.dictionaries(texts, st.lists(st.none() | st.integers(0, 9), max_size=2), max_size=2),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(row=rows)
async def test_of_every_kind_of_column(dsn: str, row: Wide) -> None:
    connection = await asyncpg.connect(dsn)
    kept = Rows(Wide.__rayfold__)
    await connection.execute(f'DROP TABLE IF EXISTS "{kept.table}"')
    await schema.create(connection, Wide.__rayfold__, kept.table)
    await kept.store(connection, {row.id: VersionedRow(row, 4, 3, 1)})  # type: ignore[arg-type]
    [record] = await connection.fetch(kept.select_all)
    await connection.close()
    write = writer_of(kept.codec)
    assert write is not None
    assert write(record) == document(kept.codec.decode(record))


class Serialized(View, name="serialized", key="id"):
    id: str

    @field_serializer("id")
    def loudly(self, value: str) -> str:
        return value.upper()


class Annotated_(View, name="annotated", key="id"):
    id: Annotated[str, PlainSerializer(str.upper)]


class Computed(View, name="computed", key="id"):
    id: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def more(self) -> str:
        return self.id


class Aliased(View, name="aliased", key="id"):
    id: str = Field(serialization_alias="key")


class LeftOut(View, name="left-out", key="id"):
    id: str
    secret: str = Field(default="", exclude=True)


class Set(View, name="set", key="id"):
    model_config = ConfigDict(ser_json_timedelta="float")
    id: str


@pytest.mark.parametrize("view", [Serialized, Annotated_, Computed, Aliased, LeftOut, Set])
def test_what_only_the_model_can_write_is_left_to_it(view: type[View]) -> None:
    assert writer_of(RowCodec(view.__rayfold__)) is None


def test_the_reference_domain_needs_no_model(registry: Registry) -> None:
    views: list[Any] = list(registry.views.values())
    assert all(writer_of(RowCodec(view)) for view in views)
