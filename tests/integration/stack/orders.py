"""Orders over HTTP, as the tests make them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx


def create(http: httpx.Client, customer: str = "ada") -> str:
    """A new, empty order's id."""
    order = str(uuid4())
    answer = http.post("/orders", json={"order_id": order, "customer_id": customer})
    assert answer.status_code == 202, answer.text
    return order


def add(http: httpx.Client, order: str, sku: str = "tea", **changes: Any) -> httpx.Response:
    """Adds a line: one tea at 450 cents, unless said otherwise."""
    line = {"sku": sku, "quantity": 1, "unit_price_cents": 450} | changes
    return http.post(f"/orders/{order}/lines", json=line)


def read(http: httpx.Client, order: str, token: str, store: str | None = None) -> dict[str, Any]:
    """The order, as of a receipt's token."""
    headers = {"Consistency-Token": token}
    if store:
        headers["Rayfold-Store"] = store
    answer = http.get(f"/orders/{order}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
