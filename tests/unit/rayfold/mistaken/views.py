"""Views, projections and queries, each with something wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayfold import (
    ComposedQuery,
    Composing,
    Event,
    Message,
    PageQuery,
    Query,
    SqlProjection,
    SqlQuery,
    Statement,
    View,
    on,
)
from tests.unit.rayfold.mistaken.things import NoZone, Versioned


class NobodyYields(Event, name="NobodyYields"):
    thing_id: str


class Keyless(View, name="keyless"):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class TwoForOne(View, name="two-for-one", key="thing_id"):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def one(row: Any, event: Any) -> Any:
        return row

    @staticmethod
    @on(Versioned)
    def two(row: Any, event: Any) -> Any:
        return row


class ReturnsNothing(View, name="returns-nothing", key="thing_id"):
    thing_id: str
    total: int = 0

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        row.replace(total=row.total + 1)


class OfAnother(View, name="of-another", key="thing_id"):
    thing_id: str
    total: int = 0

    @staticmethod
    @on(Versioned, NoZone)
    def counted(row: OfAnother, event: Versioned) -> OfAnother:
        return row.replace(total=row.total + 1)


class OfNobody(View, name="of-nobody", key="thing_id"):
    thing_id: str

    @staticmethod
    @on(NobodyYields)
    def never(row: Any, event: Any) -> Any:
        return row


class Unkeyed(View, name="unkeyed", key="colour"):
    colour: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class Unordered(View, name="unordered", key="thing_id", indexes=("tags", "colour")):
    thing_id: str
    tags: tuple[str, ...] = ()

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class SystemColumn(View, name="system-column", key="thing_id"):
    thing_id: str
    xmin: int = 0
    revision: int = 0

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class NeverBegins(View, name="never-begins", key="thing_id"):
    thing_id: str
    total: int

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class FoldsNothing(View, name="folds-nothing", key="thing_id"):
    thing_id: str


class WhereTo(View, name="where-to", key="thing_id", stores=("oracle",)):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class Competing(View, name="competing", key="thing_id", delivery="competing"):
    thing_id: str

    @staticmethod
    @on(NoZone)
    def no_zone(row: Any, event: Any) -> Any:
        return row


class Long(View, name="long-" + "x" * 60, key="thing_id"):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class OurTables(View, name="rayfold-checkpoint", key="thing_id"):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class AnIndex(View, name="things-pkey", key="thing_id"):
    thing_id: str

    @staticmethod
    @on(Versioned)
    def versioned(row: Any, event: Any) -> Any:
        return row


class Public(SqlProjection, name="public"):
    schema = "CREATE TABLE t (a int)"

    @staticmethod
    @on(Versioned)
    def versioned(event: Any) -> Iterable[Statement]:
        return []


class NoTables(SqlProjection, name="no-tables"):
    pass


class NoView(Query, name="no-view"):
    thing_id: str


class WrongField(Query, name="wrong-field", view=TwoForOne):
    label: str


class PerhapsKey(Query, name="perhaps-key", view=TwoForOne):
    thing_id: str | None = None


class NoIndex(PageQuery, name="no-index", view=TwoForOne):
    thing_id: str | None = None


class OwnLimit(PageQuery, name="own-limit", view=TwoForOne):
    limit: str = ""


class NewestOne(Query, name="newest-one", view=TwoForOne, newest_first=True):
    thing_id: str


class NewestMaybe(PageQuery, name="newest-maybe", view=TwoForOne, newest_first=1):
    pass


class NotAsked(ComposedQuery, name="not-asked", result=TwoForOne):
    thing_id: str

    async def handle(self) -> Any:
        return None


class NoHandle(ComposedQuery, name="no-handle"):
    pass


class Nameless(Message):
    name: str = None  # type: ignore[assignment]


class NoName(ComposedQuery, name="no-name", result=Nameless):
    def handle(self) -> Composing[Nameless]:
        yield from ()
        return Nameless()


class NoStatement(SqlQuery, name="no-statement"):
    pass
