"""Queries: which view to read, and which of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from rayfold.declarations import misnamed, mistaken_permission
from rayfold.field_defaults import mistaken_defaults
from rayfold.field_types import mistakes_of_fields, mistakes_of_forward_references
from rayfold.keys import may_be_none, scalar_of
from rayfold.messages import KEBAB, Message
from rayfold.view import View, ViewDefinition

MAX_PAGE = 200


@dataclass(frozen=True, eq=False)
class QueryDefinition:
    """What every query class declares: its name and, optionally, the permission that it needs."""

    model: type[Query]
    name: str
    needs: str

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found = misnamed(self.model, self.name, KEBAB, "kebab-case, like 'get-order'")
        found += mistaken_permission(self.model, self.needs)
        return found + mistakes_of_fields(self.model)


def mistakes_of_answer(query: type[Query], keyword: str, what: str, given: Any) -> list[str]:
    """Return the mistakes in the model of a query's answer, one sentence each."""
    if isinstance(given, type) and issubclass(given, BaseModel):
        return mistakes_of_forward_references(given) or mistaken_defaults(given)
    got = "" if given is None else f"; got {given!r}"
    return [f"{query.__qualname__} needs {keyword}=…, the model of {what}{got}"]


@dataclass(frozen=True, eq=False)
class ViewQueryDefinition(QueryDefinition):
    """A query for one row of a view, or for a page of them."""

    view_type: type[View] | None
    newest_first: bool = False

    @property
    def view(self) -> ViewDefinition:
        """The view that the query reads."""
        assert self.view_type is not None, "the registry has refused a query without a view"
        return self.view_type.__rayfold__

    @property
    def is_page(self) -> bool:
        """Whether it asks for a page of rows."""
        return issubclass(self.model, PageQuery)

    @cached_property
    def filter_fields(self) -> list[str]:
        """The names of the fields that are filters."""
        own = PageQuery.model_fields
        return [field for field in self.model.model_fields if field not in own]

    def filters(self, query: Query) -> dict[str, Any]:
        """Return the filters that were given, with their values."""
        given = {field: getattr(query, field) for field in self.filter_fields}
        return {field: value for field, value in given.items() if value is not None}

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found, name = super().mistakes(), self.model.__qualname__
        if not (isinstance(self.view_type, type) and issubclass(self.view_type, View)):
            got = "" if self.view_type is None else f"; got {self.view_type!r}"
            return [*found, f"{name} needs view=…, the view that it asks{got}"]
        if type(self.newest_first) is not bool:
            found.append(f"{name}: newest_first is True or False; got {self.newest_first!r}")
        if self.is_page:
            return found + self._mistakes_of_filters(self.view)
        if self.newest_first:
            found.append(f"{name} asks for one row: newest_first is for a PageQuery")
        if self.view.key and set(self.model.model_fields) != {self.view.key}:
            found.append(
                f"{name} must have the field {self.view.key!r} and no other; "
                "derive it from PageQuery to ask for many rows"
            )
        elif self.view.key and may_be_none(self.model.model_fields[self.view.key]):
            where = f"{name}.{self.view.key}"
            found.append(f"{where} may be None, but no row has such a key: remove None")
        return found

    def _mistakes_of_filters(self, view: ViewDefinition) -> list[str]:
        name = self.model.__qualname__
        found = [
            f"{name}.{field} needs another name: every page has a field of that name"
            for field, info in PageQuery.model_fields.items()
            if self.model.model_fields[field].annotation != info.annotation
        ]
        for field in self.filter_fields:
            if field not in view.indexes:
                found.append(
                    f"{name}.{field} is not an index of {view.model.__qualname__}, and a page is"
                    f" filtered by such alone: indexes=(…, {field!r}), or a SqlQuery for ranges and"
                    " orders"
                )
                continue
            own, indexed = self.model.model_fields[field], view.model.model_fields.get(field)
            mine, its = scalar_of(own), scalar_of(indexed) if indexed else None
            if its is not None and (mine is None or mine.kind is not its.kind):
                found.append(f"{name}.{field} is of another type than {view.model.__qualname__}'s")
        return found


class Query(Message):
    """Asks for one row by its key: `class GetOrder(Query, name="get-order", view=OrderDetails)`.

    The query has one field, named as the view's key. `needs` is a permission that an HTTP client
    must have; the history and the live stream of the query's route need it too.
    """

    __rayfold__: ClassVar[QueryDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        needs: str = "",
        view: type[View] | None = None,
        newest_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = ViewQueryDefinition(cls, name, needs, view, newest_first)


class PageQuery(Query):
    """Asks for rows in the order in which they began, one page at a time.

    With `newest_first=True` it is the reverse: `class LatestOrders(PageQuery, name="latest-orders",
    view=OrderSummaries, newest_first=True)`. Rows that begin meanwhile are on no page after the
    first one then.

    Every field except `limit` and `cursor` is an optional filter (by equality) and must be
    among the view's indexes. `cursor` is opaque: the `next_cursor` of the page before.
    A row that begins, changes or is deleted between two pages neither shifts nor repeats others.
    """

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str, Field(max_length=4096)] | None = None


def view_query_of(query: Query) -> ViewQueryDefinition:
    """Return the definition of a query that reads a view.

    Raises:
        TypeError: the query does not read a view.
    """
    definition = type(query).__rayfold__
    if not isinstance(definition, ViewQueryDefinition):
        raise TypeError(f"{type(query).__qualname__} asks no view")
    return definition
