"""A document made of columns is, to the byte, the one that the view's model writes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, PlainSerializer, computed_field, field_serializer

from projections.poison import is_poison, is_refused
from projections.postgres import schema
from projections.postgres.documents import documents, parts_of
from projections.postgres.row_codec import RowCodec
from projections.postgres.rows import Rows
from projections.sql.parameters import parameters_of
from rayfold import Registry, Statement, UtcDatetime, VersionedRow, View, document
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
    small: int = Field(ge=-9, le=9)
    real: float
    money: Decimal | None
    span: timedelta | None
    day: date | None
    at: datetime
    utc: UtcDatetime | None
    shade: Shade
    old: Old | None
    many: dict[str, list[int | None]] = Field(default_factory=dict)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2))])
times = (
    st.datetimes(timezones=st.just(UTC))
    | st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=zones)
    # The first and the last are infinite to Postgres.
    | st.sampled_from([datetime.min, datetime.max, datetime(2024, 2, 29)]).map(
        lambda moment: moment.replace(tzinfo=UTC)
    )
)
days = st.dates() | st.sampled_from([date.min, date.max])
rows = st.builds(
    Wide,
    id=texts,
    text=st.none() | texts,
    uuid=st.none() | st.uuids(),
    yes=st.booleans(),
    number=st.integers(-(10**30), 10**30),
    small=st.integers(-9, 9),
    real=st.floats(allow_nan=False, allow_infinity=False),
    money=st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3),
    span=st.none() | st.timedeltas(timedelta(-(10**6)), timedelta(10**6)),
    day=st.none() | days,
    at=times,
    utc=st.none() | times,
    shade=st.just(Shade.LIGHT),
    old=st.none() | st.just(Old.SHADE),
    many=st.dictionaries(texts, st.lists(st.none() | st.integers(0, 9), max_size=2), max_size=2),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(some=st.lists(rows, min_size=1, max_size=3, unique_by=lambda row: row.id))
async def test_the_document_is_the_same_for_every_kind_of_column(
    dsn: str, some: list[Wide]
) -> None:
    elsewhere = {"timezone": "Asia/Kolkata", "datestyle": "German", "intervalstyle": "sql_standard"}
    connection = await asyncpg.connect(dsn, server_settings=elsewhere)
    kept = Rows(Wide.__rayfold__)
    await connection.execute(f'DROP TABLE IF EXISTS "{kept.table}"')
    await schema.create(connection, Wide.__rayfold__, kept.table)
    changed = {row.id: VersionedRow(row, 4, 3, 1) for row in some}
    await kept.store(connection, changed)  # type: ignore[arg-type]
    parts = parts_of(kept.codec)
    assert parts is not None
    records = await connection.fetch(f"{kept.select_all} ORDER BY _key")
    selected = ", ".join(part.sql for part in parts)
    found = await connection.fetch(f'SELECT {selected} FROM "{kept.table}" t ORDER BY _key')
    await connection.close()
    expected = [document(kept.codec.decode(record)) for record in records]
    assert documents(parts, zip(*found, strict=True)) == expected


WHOLE = Decimal("1E+131071")
"""The greatest power of ten that a `numeric` keeps."""


async def test_a_decimal_that_the_driver_would_read_as_zero_is_not_returned(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    kept = Rows(Priced.__rayfold__)
    await connection.execute(f'DROP TABLE IF EXISTS "{kept.table}"')
    await schema.create(connection, Priced.__rayfold__, kept.table)
    most = Priced(id="a", price=WHOLE)
    await kept.store(connection, {"a": VersionedRow(most, 1, 1, 1)})
    beyond = Priced(id="b", price=WHOLE * 10)
    with pytest.raises(ValueError, match="131072 digits") as refused:
        await kept.store(connection, {"b": VersionedRow(beyond, 2, 2, 2)})
    assert is_refused(refused.value)
    statement = Statement("SELECT $1::numeric, $2::numeric[]", (WHOLE, [WHOLE]))
    [record] = await connection.fetch(statement.text, *parameters_of(statement))
    assert tuple(record) == (WHOLE, [WHOLE])
    for parameters in [(WHOLE * 10, []), (WHOLE, [WHOLE * 10])]:
        with pytest.raises(asyncpg.DataError, match="131072 digits") as poison:
            parameters_of(Statement(statement.text, parameters))
        assert is_poison(poison.value)
    await connection.close()


class Priced(View, name="priced", key="id"):
    id: str
    price: Decimal


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
def test_a_document_that_only_the_model_can_write_is_written_by_the_model(view: type[View]) -> None:
    assert parts_of(RowCodec(view.__rayfold__)) is None


def test_the_documents_of_the_reference_domain_are_built_without_the_model(
    registry: Registry,
) -> None:
    views: list[Any] = list(registry.views.values())
    assert all(parts_of(RowCodec(view)) for view in views)
