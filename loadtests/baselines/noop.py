"""The upper bound: the routes and validation of orders, without any work behind them."""

from __future__ import annotations

import uuid
from typing import Annotated

import msgspec
from litestar import Litestar, Response, get, post

Count = Annotated[int, msgspec.Meta(gt=0)]
Cents = Annotated[int, msgspec.Meta(ge=0)]


class NewOrder(msgspec.Struct):
    """The posted body."""

    order_id: uuid.UUID
    customer_id: str


class OrderLine(msgspec.Struct):
    """A line, as posted and as shown."""

    sku: str
    quantity: Count
    unit_price_cents: Cents


class NewCustomer(msgspec.Struct):
    """The posted body."""

    customer_id: uuid.UUID
    name: str
    email: str


class Address(msgspec.Struct):
    """The posted body."""

    label: str
    street: str
    postal_code: str
    city: str
    country: str


class ShownCustomer(msgspec.Struct):
    """The response to a read."""

    customer_id: uuid.UUID
    name: str
    email: str
    addresses: list[Address]


class ShownOrder(msgspec.Struct):
    """The response to a read."""

    order_id: uuid.UUID
    customer_id: str
    status: str
    lines: list[OrderLine]
    total_cents: int


_SOME = [OrderLine(f"sku-{number}", number + 1, 100) for number in range(3)]


@post("/orders", status_code=202)
async def create(data: NewOrder) -> Response[None]:
    """Validate the body only."""
    return Response(None, status_code=202)


@post("/orders/{order_id:uuid}/lines", status_code=202)
async def add_line(order_id: uuid.UUID, data: OrderLine) -> Response[None]:
    """Validate the body only."""
    return Response(None, status_code=202)


@post("/customers", status_code=202)
async def register(data: NewCustomer) -> Response[None]:
    """Validate the body only."""
    return Response(None, status_code=202)


@post("/customers/{customer_id:uuid}/addresses", status_code=202)
async def add_address(customer_id: uuid.UUID, data: Address) -> Response[None]:
    """Validate the body only."""
    return Response(None, status_code=202)


@get("/customers/{customer_id:uuid}")
async def customer(customer_id: uuid.UUID) -> ShownCustomer:
    """Serialize a fixed response."""
    return ShownCustomer(customer_id, "Ada", "ada@example.org", [])


@get("/orders/{order_id:uuid}")
async def show(order_id: uuid.UUID) -> ShownOrder:
    """Serialize a fixed response."""
    return ShownOrder(order_id, "somebody", "open", _SOME, 600)


app = Litestar(
    [create, add_line, register, add_address, customer, show],
    openapi_config=None,
    logging_config=None,
)
