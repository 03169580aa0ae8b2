"""Reads the bodies that operators send."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from api.http.endpoint import Call
from api.http.problems import invalid_field, malformed
from rayfold.foreign_json import UNREADABLE

Shape = TypeVar("Shape", bound=msgspec.Struct)


async def read_body(call: Call, shape: type[Shape]) -> Shape:
    """Return the body as a `shape`.

    Raises:
        Problem: 400 if it is not JSON, 422 if it has another shape.
    """
    try:
        return msgspec.json.decode(await call.body(), type=shape)
    except msgspec.ValidationError as error:
        raise invalid_field(", ".join(shape.__struct_fields__), str(error)) from error
    except UNREADABLE as error:
        raise malformed(f"the body is not valid JSON: {error}") from error
