"""Queries in SQL, to the tables of a custom SQL projection."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from rayfold.errors import DomainError
from rayfold.messages import KEBAB, Message, checked_name
from rayfold.query import MAX_PAGE, Query
from rayfold.sql import SqlProjection, Statement


class SqlQuery(Query, abstract=True):
    """Asks a projection's tables:

        class TopSellers(SqlQuery, name="top-sellers", projection=Bestsellers, row=Seller):
            day: date

            def statement(self) -> Statement:
                return sql("SELECT sku, quantity FROM sold WHERE day = $1 …", self.day)

    The answer is `{"items": […], "more": …}`: at most `limit` rows, each with the fields of
    `row`; `more` says that there would have been others. There is no cursor, since only the
    statement knows its order: one who pages makes the last row's place a field of the query.
    """

    projection: ClassVar[type[SqlProjection]]
    row: ClassVar[type[Message]]

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        projection: type[SqlProjection] | None = None,
        row: type[Message] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)  # see Command

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        name: str | None = None,
        projection: type[SqlProjection] | None = None,
        row: type[Message] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**{**kwargs, "abstract": True})
        if kwargs.get("abstract"):
            return
        cls.name = checked_name(cls, name, KEBAB, "kebab-case, like 'top-sellers'")
        if projection is None or row is None:
            raise DomainError(f"{cls.__qualname__} needs projection=… and row=…")
        if cls.statement is SqlQuery.statement:
            raise DomainError(f"{cls.__qualname__} needs a method `statement`")
        cls.projection = projection
        cls.row = row

    @abstractmethod
    def statement(self) -> Statement:
        """The SELECT; pure. Its columns are named as the row's fields."""
