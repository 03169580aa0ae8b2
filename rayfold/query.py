"""Queries: which view to read, and how to find the rows in it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from rayfold.errors import DomainError
from rayfold.messages import KEBAB, Message, checked_name
from rayfold.view import View

MAX_PAGE = 200


class Query(Message):
    """Asks for one row by its key: `class GetOrder(Query, name="get-order", view=OrderDetails)`.

    The query has one field, named as the view's key.
    """

    name: ClassVar[str] = ""
    view: ClassVar[type[View]]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        view: type[View] | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)  # see Command

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        name: str | None = None,
        view: type[View] | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if abstract:
            return
        if view is None:
            raise DomainError(f"{cls.__qualname__} names no view")
        cls.name = checked_name(cls, name, KEBAB, "kebab-case, like 'get-order'")
        cls.view = view
        cls._check_fields()

    @classmethod
    def _check_fields(cls) -> None:
        if set(cls.model_fields) != {cls.view.key}:
            raise DomainError(
                f"{cls.__qualname__} must have the field {cls.view.key!r} and no other; "
                "derive it from PageQuery to ask for many rows"
            )


class PageQuery(Query, abstract=True):
    """Asks for rows in the order in which they began, a page at a time.

    Every field beside `limit` and `cursor` is an optional filter (equals), and must be
    among the view's indexes. `cursor` is opaque: the `next_cursor` of the page before.
    A row that begins, changes or goes between two pages neither shifts nor repeats others.
    """

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str, Field(max_length=64)] | None = None

    @classmethod
    def _check_fields(cls) -> None:
        for field in cls.filter_fields():
            if field not in cls.view.indexes:
                raise DomainError(f"{cls.__qualname__}: {field!r} is no index of {cls.view.name!r}")

    @classmethod
    def filter_fields(cls) -> list[str]:
        """The names of the fields that filter."""
        return [field for field in cls.model_fields if field not in PageQuery.model_fields]

    def filters(self) -> dict[str, Any]:
        """The filters that were given, with their values."""
        given = {field: getattr(self, field) for field in self.filter_fields()}
        return {field: value for field, value in given.items() if value is not None}
