"""Plain answers."""

from __future__ import annotations

from typing import Any

from litestar.response.base import ASGIResponse
from msgspec.json import encode


def json_response(content: Any, status: int = 200) -> ASGIResponse:
    """JSON out of plain data."""
    return ASGIResponse(body=encode(content), status_code=status, media_type="application/json")
