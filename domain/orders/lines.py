"""An order's lines, in persistent collections: a change costs the same however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from rpds import HashTrieMap, List

from rayfold import Message

Sku = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]
Quantity = Annotated[int, Field(ge=1, le=1_000_000)]


class Line(Message):
    """A quantity of one item, at a price each."""

    sku: str
    quantity: int
    unit_price_cents: int

    @property
    def cents(self) -> int:
        """What the line costs."""
        return self.quantity * self.unit_price_cents


class Lines:
    """Lines by SKU, in the order in which each was first added. Immutable; JSON is a list."""

    __slots__ = ("_by_sku", "_next")

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        numbered = [(line.sku, (number, line)) for number, line in enumerate(lines)]
        self._by_sku: HashTrieMap[str, tuple[int, Line]] = HashTrieMap(numbered)
        self._next = len(numbered)

    def get(self, sku: str) -> Line | None:
        """Return the line of that SKU."""
        found = self._by_sku.get(sku)
        return None if found is None else found[1]

    def add(self, line: Line) -> Lines:
        """With the line; one of the same SKU grows by its quantity."""
        number, present = self._by_sku.get(line.sku) or (self._next, None)
        if present is not None:
            line = present.replace(quantity=present.quantity + line.quantity)
        return self._with(self._by_sku.insert(line.sku, (number, line)), self._next + 1)

    def remove(self, sku: str) -> Lines:
        """Without the line of that SKU."""
        return self._with(self._by_sku.discard(sku), self._next)

    @staticmethod
    def _with(by_sku: HashTrieMap[str, tuple[int, Line]], following: int) -> Lines:
        lines = Lines.__new__(Lines)
        lines._by_sku = by_sku
        lines._next = following
        return lines

    def __iter__(self) -> Iterator[Line]:
        # By number; no two have the same, so that lines are never compared.
        return iter([line for _, line in sorted(self._by_sku.values())])

    def __len__(self) -> int:
        return len(self._by_sku)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lines) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Lines({list(self)})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _as_list(cls, handler)


class Entries:
    """Lines as they were added, one by one. Immutable; JSON is a list."""

    __slots__ = ("_newest_first",)

    def __init__(self, entries: Iterable[Line] = ()) -> None:
        self._newest_first: List[Line] = List(list(entries)[::-1])

    def add(self, line: Line) -> Entries:
        """With the line at the end."""
        entries = Entries.__new__(Entries)
        entries._newest_first = self._newest_first.push_front(line)
        return entries

    def remove(self, sku: str) -> Entries:
        """Without the lines of that SKU."""
        return Entries(line for line in self if line.sku != sku)

    def __iter__(self) -> Iterator[Line]:
        return reversed(list(self._newest_first))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entries) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Entries({list(self)})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _as_list(cls, handler)


def _as_list(collection: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    as_list = handler(list[Line])
    build = core_schema.no_info_after_validator_function(collection, as_list)
    return core_schema.json_or_python_schema(
        json_schema=build,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(collection), build]),
        serialization=core_schema.plain_serializer_function_ser_schema(
            list, return_schema=as_list, when_used="always"
        ),
    )
