"""How a schema in the lock file has to look: one that was changed by hand into something else is
found when it is read, and never compared."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0)]
Number = int | Annotated[float, Field(allow_inf_nan=False)]

Shape = TypedDict(
    "Shape",
    {
        "type": str,
        "enum": Annotated[list[Any], Field(min_length=1)],
        "$ref": str,
        "$defs": dict[str, "Shape"],
        "anyOf": list["Shape"],
        "oneOf": list["Shape"],
        "discriminator": dict[str, str],
        "properties": dict[str, "Shape"],
        "required": list[str],
        "x-aliases": list[str],
        "x-name": str,
        "x-personal": bool,
        "additionalProperties": "Shape | bool",
        "patternProperties": dict[str, "Shape"],
        "propertyNames": "Shape",
        "minProperties": Count,
        "maxProperties": Count,
        "items": "Shape | bool",
        "prefixItems": list["Shape"],
        "minItems": Count,
        "maxItems": Count,
        "uniqueItems": bool,
        "format": str,
        "pattern": str,
        "minLength": Count,
        "maxLength": Count,
        "x-minLength": Count,
        "x-maxLength": Count,
        "minimum": Number,
        "maximum": Number,
        "exclusiveMinimum": Number,
        "exclusiveMaximum": Number,
        "multipleOf": Annotated[Number, Field(gt=0)],
        "x-digits": Count,
        "x-places": Count,
    },
    total=False,
)
"""A schema, and each within it. Any other keyword is compared as it is, whatever it says."""

Shape.__pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[attr-defined]

SHAPE: TypeAdapter[Any] = TypeAdapter(Shape)
"""Refuses what is none."""
