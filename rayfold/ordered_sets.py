"""Writes sets in one fixed order.

The order of a set of texts differs in each process. Without sorting, the same command could be
written in two ways, so that its repeat looks like another command, and the same row in two ways
under one ETag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic_core import core_schema, to_json

_SETS = ("set", "frozenset")

_COMPARABLE = (str, bytes, int, float, Decimal, date, timedelta, UUID)


def ordered(value: Any) -> Any:
    """Return a set as a sorted list: by value if values have an order, else by their JSON."""
    if not isinstance(value, set | frozenset):
        return value  # it bypassed validation
    kinds = {type(each) for each in value}
    if len(kinds) == 1 and issubclass(kinds.pop(), _COMPARABLE):
        with suppress(TypeError):  # datetimes with and without a zone cannot be compared
            return sorted(value)
    return sorted(value, key=lambda each: to_json(ordered(each), fallback=repr))


class SetsInOrder:
    """A base for pydantic models whose JSON has sorted sets.

    A serializer of the author's own is kept. A nested model without this base is not sorted.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """See pydantic."""
        schema = handler(source)
        _write_sets_in_order(schema, handler.resolve_ref_schema)
        return schema


def writes_in_any_order(node: dict[str, Any]) -> bool:
    """Return whether a model of this schema writes its own sets unsorted.

    pydantic uses the serializer that the model's class already has, whatever schema surrounds it.
    """
    cls = node["cls"]
    is_written_by_itself = hasattr(cls, "__pydantic_serializer__")
    return is_written_by_itself and not issubclass(cls, SetsInOrder) and _has_set(node["schema"])


def _has_set(node: Any) -> bool:
    if isinstance(node, list | tuple):
        return any(map(_has_set, node))
    if not isinstance(node, dict) or node.get("type") in ("model", "dataclass"):
        return False
    if "serialization" in node and node["serialization"].get("function") is not ordered:
        return False
    inner = (each for name, each in node.items() if name not in ("serialization", "metadata"))
    return node.get("type") in _SETS or any(map(_has_set, inner))


def _write_sets_in_order(schema: Any, resolve: Callable[[Any], Any]) -> None:
    for node in _nodes(schema, resolve, set()):
        if node["type"] in _SETS and "serialization" not in node:
            items = core_schema.list_schema(node.get("items_schema"))
            node["serialization"] = core_schema.plain_serializer_function_ser_schema(
                ordered, return_schema=items, when_used="json"
            )
            # Else its JSON schema would be that of a list, without uniqueness.
            node.setdefault("metadata", {})["pydantic_js_updates"] = {"uniqueItems": True}


def _nodes(node: Any, resolve: Callable[[Any], Any], seen: set[int]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list | tuple):
        for each in node:
            yield from _nodes(each, resolve, seen)
    if not isinstance(node, dict) or id(node) in seen:
        return
    seen.add(id(node))
    if node.get("type") == "definition-ref":
        yield from _nodes(resolve(node), resolve, seen)
        return
    inner = [each for name, each in node.items() if name not in ("serialization", "metadata")]
    yield from _nodes(inner, resolve, seen)
    if isinstance(node.get("type"), str):
        yield node
