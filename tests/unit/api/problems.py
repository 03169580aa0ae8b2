"""What every error answer must look like."""

from __future__ import annotations

from typing import Any

import httpx


def problem(reply: httpx.Response, status: int, kind: str | None = None) -> dict[str, Any]:
    """Return the problem document, after checking its form."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = reply.json()
    assert document["status"] == status
    assert document["type"].startswith("/problems/")
    assert document["title"]
    assert document["detail"]
    if kind is not None:
        assert document["type"] == f"/problems/{kind}"
    return document


def fields_of(reply: httpx.Response) -> set[str]:
    """Return the fields that a 422 names."""
    errors = problem(reply, 422, "invalid-fields")["errors"]
    assert all(set(error) == {"field", "message", "type"} for error in errors)
    return {error["field"] for error in errors}
