"""Orders and parcels; whatever a customer writes is taken as it is."""

from __future__ import annotations

from collections.abc import Iterable

from rayfold import Aggregate, Command, Event, Message, Rejected


class OpenOrder(Command, name="open-order", creates=True):
    """Begin an order."""

    order_id: str
    customer: str


class AddItem(Command, name="add-item"):
    """Put something in; `note` is free text."""

    order_id: str
    sku: str
    quantity: int = 1
    note: str = ""


class PlaceOrder(Command, name="place-order"):
    """Order what is in it."""

    order_id: str


class OrderOpened(Event, name="OrderOpened"):
    """A customer began an order."""

    order_id: str
    customer: str


class ItemAdded(Event, name="ItemAdded"):
    """So many of something were put in."""

    order_id: str
    sku: str
    quantity: int
    note: str


class OrderPlaced(Event, name="OrderPlaced"):
    """The customer ordered what was in it."""

    order_id: str
    customer: str
    items: int


class OrderState(Message):
    """What deciding needs."""

    customer: str = ""
    items: int = 0
    last_note: str = ""
    placed: bool = False


class Order(
    Aggregate[OrderState, OpenOrder | AddItem | PlaceOrder, OrderOpened | ItemAdded | OrderPlaced],
    category="order",
    id_field="order_id",
    initial=OrderState(),
):
    """Changes until it is placed."""

    @staticmethod
    def decide(
        state: OrderState, command: OpenOrder | AddItem | PlaceOrder
    ) -> Iterable[OrderOpened | ItemAdded | OrderPlaced]:
        if state.placed:
            raise Rejected("order-placed", "a placed order does not change")
        match command:
            case OpenOrder():
                yield OrderOpened(order_id=command.order_id, customer=command.customer)
            case AddItem():
                yield ItemAdded(
                    order_id=command.order_id,
                    sku=command.sku,
                    quantity=command.quantity,
                    note=command.note,
                )
            case PlaceOrder():
                yield OrderPlaced(
                    order_id=command.order_id, customer=state.customer, items=state.items
                )

    @staticmethod
    def evolve(state: OrderState, event: OrderOpened | ItemAdded | OrderPlaced) -> OrderState:
        match event:
            case OrderOpened():
                return state.replace(customer=event.customer)
            case ItemAdded():
                return state.replace(items=state.items + event.quantity, last_note=event.note)
            case OrderPlaced():
                return state.replace(placed=True)


class SendParcel(Command, name="send-parcel", creates=True):
    """Send what was ordered."""

    order_id: str
    to: str


class ParcelSent(Event, name="ParcelSent"):
    """It is on its way."""

    order_id: str
    to: str


class ParcelState(Message):
    """Nothing that decisions need."""


class Parcel(
    Aggregate[ParcelState, SendParcel, ParcelSent],
    category="parcel",
    id_field="order_id",
    initial=ParcelState(),
):
    """Goes once."""

    @staticmethod
    def decide(state: ParcelState, command: SendParcel) -> list[ParcelSent]:
        return [ParcelSent(order_id=command.order_id, to=command.to)]

    @staticmethod
    def evolve(state: ParcelState, event: ParcelSent) -> ParcelState:
        return state
