"""Stock items: commands, events, rules. Small enough to stand in one file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, assert_never
from uuid import UUID

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, NotFound, Placement, Rejected

Sku = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]
Quantity = Annotated[int, Field(ge=1, le=1_000_000)]


class ReceiveStock(Command, name="receive-stock", creates=True):
    """Add received goods to the stock."""

    sku: Sku
    quantity: Quantity


class ReserveStock(Command, name="reserve-stock"):
    """Reserve a quantity, for an order if one is named."""

    sku: Sku
    quantity: Quantity
    order_id: UUID | None = None


class ReleaseStock(Command, name="release-stock"):
    """Release a reserved quantity."""

    sku: Sku
    quantity: Quantity
    order_id: UUID | None = None


class StockReceived(Event, name="StockReceived"):
    """Goods were received."""

    sku: str
    quantity: int


class StockReserved(Event, name="StockReserved"):
    """A quantity was reserved."""

    sku: str
    quantity: int
    order_id: UUID | None = None


class StockReleased(Event, name="StockReleased"):
    """A reserved quantity was released."""

    sku: str
    quantity: int
    order_id: UUID | None = None


StockCommand = ReceiveStock | ReserveStock | ReleaseStock
StockEvent = StockReceived | StockReserved | StockReleased


class StockState(Message):
    """What deciding on a stock item needs to know."""

    known: bool = False
    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        """What nobody has reserved."""
        return self.on_hand - self.reserved


class StockItem(
    Aggregate[StockState, StockCommand, StockEvent],
    category="stock",
    id_field="sku",
    initial=StockState(),
    placement=Placement.DEDICATED,
    keep_commands=True,  # for `rayfold counterfactual`
):
    """All pieces of one SKU. Never oversold: reserved is at most what is on hand."""

    @staticmethod
    def decide(state: StockState, command: StockCommand) -> Iterable[StockEvent]:
        """See `Aggregate.decide`."""
        if isinstance(command, ReceiveStock):
            return [StockReceived(sku=command.sku, quantity=command.quantity)]
        if not state.known:
            raise NotFound("unknown-stock", f"there is no stock item {command.sku!r}")
        match command:
            case ReserveStock():
                if command.quantity > state.available:
                    raise Rejected(
                        "insufficient-stock",
                        f"{state.available} of {command.sku!r} available, "
                        f"{command.quantity} wanted",
                    )
                return [StockReserved.model_construct(**dict(command))]
            case ReleaseStock():
                if command.quantity > state.reserved:
                    raise Rejected(
                        "not-reserved",
                        f"{state.reserved} of {command.sku!r} reserved, "
                        f"{command.quantity} to release",
                    )
                return [StockReleased.model_construct(**dict(command))]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: StockState, event: StockEvent) -> StockState:
        """See `Aggregate.evolve`."""
        match event:
            case StockReceived():
                return state.replace(known=True, on_hand=state.on_hand + event.quantity)
            case StockReserved():
                return state.replace(reserved=state.reserved + event.quantity)
            case StockReleased():
                return state.replace(reserved=state.reserved - event.quantity)
            case _:
                assert_never(event)
