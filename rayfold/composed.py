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
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from rayfold.declarations import is_async
from rayfold.messages import Message
from rayfold.query import Query, QueryDefinition, mistakes_of_answer

Result = TypeVar("Result", bound=Message)

Composing: TypeAlias = Generator[Query | Sequence[Query], Any, Result | None]
"""What `handle` is: yields queries, is sent their answers, returns a result or None."""

MAX_ASKED = 200
"""Queries that one composed query may ask, with those that it asks by others."""


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
    """Gives a `result`, or None where there is no such thing.

    All stores that it asks have reached the client's token; the answer's own token is the
    furthest that any of them had come, so that a client who sends it back never sees an
    older state of any of them. It does not show all of them at one and the same moment.
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
        """Yield queries, take their answers, return the result; pure."""
