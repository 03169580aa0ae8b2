"""How a long body is read: each collection in it is given up at its first mistake.

pydantic reports every mistake. A megabyte of `{}`, in a list of models with five fields, has 1.7
million: one such request blocked the gateway for ten seconds and took 1.7 GB. Unknown field names
are mistakes too; see `api.commands.unknown_names`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

LONG = 16 * 1024
"""Bytes. For a shorter body all mistakes are reported, so that a form can show them all."""

_COLLECTIONS = {
    "list", "deque", "tuple", "set", "frozenset",
    "dict", "frozendict", "ordered-dict", "counter",
}  # fmt: skip
_NO_SCHEMAS = {
    "metadata", "serialization", "default", "function", "config", "cls", "members",
}  # fmt: skip
_BY_NAME = {"fields", "choices"}
"""Keys whose values are schemas by the author's names: a field may be called `type`, say."""


def validator_of_long(model: type[BaseModel]) -> SchemaValidator:
    """Return a validator that accepts the same as the model's own, but reports fewer mistakes."""
    # Else pydantic would use the existing validators of nested models.
    return SchemaValidator(_hasty(model.__pydantic_core_schema__), _use_prebuilt=False)


def _hasty(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return type(node)(map(_hasty, node))
    if not isinstance(node, dict):
        return node
    copied = {name: _hasty_part(name, each) for name, each in node.items()}
    return {**copied, "fail_fast": True} if node.get("type") in _COLLECTIONS else copied


def _hasty_part(name: str, part: Any) -> Any:
    if name in _NO_SCHEMAS:
        return part
    if name in _BY_NAME and isinstance(part, dict):
        return {each: _hasty(schema) for each, schema in part.items()}
    return _hasty(part)
