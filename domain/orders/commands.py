"""What can be asked of an order."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from domain.orders.lines import Quantity, Sku
from rayfold import Cents, Command, Now

CustomerId = Annotated[str, Field(min_length=1, max_length=128)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class CreateOrder(Command, name="create-order", creates=True):
    """Begin an order for a customer."""

    order_id: UUID
    customer_id: CustomerId
    currency: Currency = "EUR"
    at: Now


class AddLine(Command, name="add-line"):
    """Put so many of an item into the order."""

    order_id: UUID
    sku: Sku
    quantity: Quantity
    unit_price_cents: Cents


class RemoveLine(Command, name="remove-line"):
    """Take an item out of the order, whatever its quantity."""

    order_id: UUID
    sku: Sku


class PlaceOrder(Command, name="place-order"):
    """Order what is in it; nothing in it changes afterwards."""

    order_id: UUID
    at: Now


class PayOrder(Command, name="pay-order"):
    """The customer has paid."""

    order_id: UUID
    at: Now


class ShipOrder(Command, name="ship-order"):
    """The goods have left."""

    order_id: UUID
    at: Now


class CancelOrder(Command, name="cancel-order"):
    """Nothing will come of this order."""

    order_id: UUID
    at: Now


OrderCommand = CreateOrder | AddLine | RemoveLine | PlaceOrder | PayOrder | ShipOrder | CancelOrder
