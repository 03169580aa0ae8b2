"""Composed queries: handlers that build one answer from the answers of other queries.

    class GetPackingList(ComposedQuery, name="get-packing-list", result=PackingList):
        order_id: UUID

        def handle(self) -> Composing[PackingList]:
            order = yield GetOrder(order_id=self.order_id)
            if order is None:
                return None
            stock = yield [GetStock(sku=line.sku) for line in order.lines]
            return PackingList(order_id=order.order_id, …)

The handler yields queries, and is sent their answers: a row or None for a query by key, a list
of rows for a page or a query in SQL. The queries of a list are asked concurrently. Handlers are
pure, so a test can send the answers itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from rayfold.declarations import is_async
from rayfold.messages import Message
from rayfold.query import Query, QueryDefinition, mistakes_of_answer

Result = TypeVar("Result", bound=Message)

Composing: TypeAlias = Generator[Query | Sequence[Query], Any, Result | None]
"""The type of `handle`: it yields queries, is sent their answers, and returns a result or None."""

MAX_ASKED = 200
"""The number of queries that one composed query may ask, including those of nested ones."""


@dataclass(frozen=True, eq=False)
class ComposedQueryDefinition(QueryDefinition):
    """A query that asks others, and the model of its answer."""

    model: type[ComposedQuery]
    result_type: type[Message] | None

    @property
    def result(self) -> type[Message]:
        """The model of the answer."""
        assert self.result_type is not None, "the registry has refused a query without a result"
        return self.result_type

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found = super().mistakes()
        found += mistakes_of_answer(self.model, "result", "its answer", self.result_type)
        if self.model.handle is ComposedQuery.handle:
            found.append(f"{self.model.__qualname__} needs a method `handle`")
        elif is_async(self.model.handle):
            found.append(
                f"{self.model.__qualname__}.handle is async: let it `yield` what it asks, and take"
                " `async` away"
            )
        return found


class ComposedQuery(Query):
    """Returns a `result`, or None if there is no such thing.

    All stores that it asks have reached the client's token. The answer's own token is the
    furthest position of any of them, so that a client that sends it back never sees an older
    state of any of them. The answers are not all of the same moment.
    """

    __rayfold__: ClassVar[ComposedQueryDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        needs: str = "",
        result: type[Message] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = ComposedQueryDefinition(cls, name, needs, result)

    @abstractmethod
    def handle(self) -> Composing[Any]:
        """Yield queries, receive their answers, return the result. Pure."""
