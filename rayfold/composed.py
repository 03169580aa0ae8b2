"""Queries whose answer is composed of several: handlers that see only what queries give.

    class GetPackingList(ComposedQuery, name="get-packing-list", result=PackingList):
        order_id: UUID

        def handle(self) -> Composing[PackingList]:
            order = yield GetOrder(order_id=self.order_id)
            if order is None:
                return None
            stock = yield [GetStock(sku=line.sku) for line in order.lines]
            return PackingList(order_id=order.order_id, …)

What a handler yields is asked of the stores; it gets the answers back: a row or None for a
query by key, a list of rows for a page or a query in SQL. What is yielded as a list is asked
at the same time. Handlers are pure, so a test can play the stores.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

from rayfold.errors import DomainError
from rayfold.messages import KEBAB, Message, checked_name
from rayfold.query import Query

Result = TypeVar("Result", bound=Message)

Composing: TypeAlias = Generator[Query | Sequence[Query], Any, Result | None]
"""What `handle` is: yields queries, is sent their answers, returns a result or None."""

MAX_ASKED = 200
"""Queries that one composed query may ask."""


class ComposedQuery(Query, abstract=True):
    """Gives a `result`, or None where there is no such thing.

    All stores that it asks have reached the client's token; the answer's own token is the
    furthest that any of them had come, so that a client who sends it back never sees an
    older state of any of them. It does not show all of them at one and the same moment.
    """

    result: ClassVar[type[Message]]

    def __init_subclass__(
        cls, *, name: str = "", result: type[Message] | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)  # see Command

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, name: str | None = None, result: type[Message] | None = None, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**{**kwargs, "abstract": True})
        if kwargs.get("abstract"):
            return
        cls.name = checked_name(cls, name, KEBAB, "kebab-case, like 'get-packing-list'")
        if result is None:
            raise DomainError(f"{cls.__qualname__} needs result=…")
        if cls.handle is ComposedQuery.handle:
            raise DomainError(f"{cls.__qualname__} needs a method `handle`")
        cls.result = result

    @abstractmethod
    def handle(self) -> Composing[Any]:
        """Yields queries, takes their answers, returns the result; pure."""
