"""What can be asked of an order."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from domain.orders.lines import Quantity, Sku
from rayfold import NOW, Cents, Command, Now

CustomerId = Annotated[str, Field(min_length=1, max_length=128)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class CreateOrder(Command, name="create-order", creates=True):
    """Begin an order for a customer."""

    order_id: UUID
    customer_id: CustomerId
    currency: Currency = "EUR"
    at: Now = NOW


class AddLine(Command, name="add-line"):
    """Add a quantity of an item to the order."""

    order_id: UUID
    sku: Sku
    quantity: Quantity
    unit_price_cents: Cents


class RemoveLine(Command, name="remove-line"):
    """Remove an item from the order, whatever its quantity."""

    order_id: UUID
    sku: Sku


class PlaceOrder(Command, name="place-order"):
    """Place the order; its lines cannot change afterwards.

    With `fulfil` stock is reserved, and the order shipped once it is paid (`domain.fulfilment`);
    without, whoever places it sees to that.
    """

    order_id: UUID
    fulfil: bool = False
    at: Now = NOW


class PayOrder(Command, name="pay-order"):
    """The customer has paid."""

    order_id: UUID
    at: Now = NOW


class ShipOrder(Command, name="ship-order"):
    """The goods have left."""

    order_id: UUID
    at: Now = NOW


class CancelOrder(Command, name="cancel-order"):
    """Cancel the order."""

    order_id: UUID
    at: Now = NOW


class ExpireOrder(Command, name="expire-order"):
    """Cancel the order because it was not paid in time; rejected if it is paid by now."""

    order_id: UUID
    at: Now = NOW


OrderCommand = (
    CreateOrder
    | AddLine
    | RemoveLine
    | PlaceOrder
    | PayOrder
    | ShipOrder
    | CancelOrder
    | ExpireOrder
)
