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
    """Order what is in it; nothing in it changes afterwards.

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
    """Nothing will come of this order."""

    order_id: UUID
    at: Now = NOW


class ExpireOrder(Command, name="expire-order"):
    """Nobody has paid in time: nothing will come of it, unless it is paid by now."""

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
