"""Baskets: things are put in, and bought together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from rayfold import Aggregate, Command, Event, Message, Rejected, Route


class PutIn(Command, name="put-in"):
    """Put a quantity of an item into the basket."""

    basket_id: str
    sku: str
    quantity: int


class Buy(Command, name="buy"):
    """Buy all that is in the basket, on this day."""

    basket_id: str
    day: date


class ItemPut(Event, name="ItemPut"):
    """A quantity of an item was put into the basket."""

    basket_id: str
    sku: str
    quantity: int


class BasketBought(Event, name="BasketBought"):
    """All that was in the basket was bought."""

    basket_id: str
    day: date


class BasketState(Message):
    """What deciding on a basket needs to know."""

    items: int = 0
    bought: bool = False


class Basket(
    Aggregate[BasketState, PutIn | Buy, ItemPut | BasketBought],
    category="basket",
    id_field="basket_id",
    initial=BasketState(),
):
    """A basket, which can be bought once."""

    @staticmethod
    def decide(state: BasketState, command: PutIn | Buy) -> Iterable[ItemPut | BasketBought]:
        if state.bought:
            raise Rejected("basket-bought", "this basket is bought already")
        if isinstance(command, PutIn):
            return [ItemPut(**command.model_dump())]
        return [BasketBought(**command.model_dump())]

    @staticmethod
    def evolve(state: BasketState, event: ItemPut | BasketBought) -> BasketState:
        if isinstance(event, ItemPut):
            return state.replace(items=state.items + event.quantity)
        return state.replace(bought=True)


ROUTES = [
    Route("POST", "/baskets/{basket_id}/items", PutIn),
    Route("POST", "/baskets/{basket_id}/buy", Buy),
]
