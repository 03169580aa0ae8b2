"""Queries in SQL on the tables of a custom SQL projection."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from rayfold.messages import Message
from rayfold.query import MAX_PAGE, Query, QueryDefinition, mistakes_of_answer
from rayfold.sql_projection import SqlProjection, Statement


@dataclass(frozen=True, eq=False)
class SqlQueryDefinition(QueryDefinition):
    """A query in SQL: the projection whose tables it reads, and the model of a row."""

    model: type[SqlQuery]
    projection_type: type[SqlProjection] | None
    row_type: type[Message] | None

    @property
    def projection(self) -> type[SqlProjection]:
        """The projection that the query reads."""
        assert self.projection_type is not None, "the registry has refused it otherwise"
        return self.projection_type

    @property
    def row(self) -> type[Message]:
        """The model of a row of the answer."""
        assert self.row_type is not None, "the registry has refused it otherwise"
        return self.row_type

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found, name = super().mistakes(), self.model.__qualname__
        if self.projection_type is None:
            found.append(f"{name} needs projection=…, whose tables it asks")
        found += mistakes_of_answer(self.model, "row", "a row of its answer", self.row_type)
        if self.model.statement is SqlQuery.statement:
            found.append(f"{name} needs a method `statement`")
        return found


class SqlQuery(Query):
    """Reads a projection's tables:

        class TopSellers(SqlQuery, name="top-sellers", projection=Bestsellers, row=Seller):
            day: date

            def statement(self) -> Statement:
                return sql("SELECT sku, quantity FROM sold WHERE day = $1 …", self.day)

    The answer is `{"items": […], "more": …}`: at most `limit` rows, each with the fields of
    `row`; `more` says whether there are further rows. There is no cursor, since only the
    statement knows its order: to page, make the last row's place a field of the query.
    """

    __rayfold__: ClassVar[SqlQueryDefinition]

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        needs: str = "",
        projection: type[SqlProjection] | None = None,
        row: type[Message] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = SqlQueryDefinition(cls, name, needs, projection, row)

    @abstractmethod
    def statement(self) -> Statement:
        """Return the SELECT; pure. Its columns are named like the row's fields.

        On a stack that serves tenants it takes `tenant: str = ""`, which must be one of the
        statement's parameters.
        """

    def statement_for(self, tenant: str) -> Statement:
        """Return the SELECT for a tenant; `tenant` is empty on a stack without tenants.

        Raises:
            ValueError: the statement does not have the tenant as a parameter.
            Exception: whatever the author's code raises.
        """
        if not tenant:
            return self.statement()
        of_tenant: Any = self.statement
        statement: Statement = of_tenant(tenant=tenant)
        statement.check_tenant(tenant)
        return statement
