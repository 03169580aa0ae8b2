"""Baskets: things are put in, and bought together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from rayfold import Aggregate, Command, Event, Message, Rejected, Route


class PutIn(Command, name="put-in"):
    """So many of an item."""

    basket_id: str
    sku: str
    quantity: int


class Buy(Command, name="buy"):
    """All that is in it, on a day."""

    basket_id: str
    day: date


class ItemPut(Event, name="ItemPut"):
    """So many of an item are in it now, too."""

    basket_id: str
    sku: str
    quantity: int


class BasketBought(Event, name="BasketBought"):
    """All that was in it."""

    basket_id: str
    day: date


class BasketState(Message):
    """What decisions need."""

    items: int = 0
    bought: bool = False


class Basket(
    Aggregate[BasketState, PutIn | Buy, ItemPut | BasketBought],
    category="basket",
    id_field="basket_id",
    initial=BasketState(),
):
    """Can be bought once."""

    @staticmethod
    def decide(state: BasketState, command: PutIn | Buy) -> Iterable[ItemPut | BasketBought]:
        if state.bought:
            raise Rejected("basket-bought", "this basket is bought")
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
