"""What readers see of baskets. Their events may be shared by competing consumers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import Field

from examples.shop.baskets import BasketBought, ItemPut
from rayfold import (
    ComposedQuery,
    Composing,
    Message,
    PageQuery,
    Query,
    Route,
    View,
    on,
)


class Baskets(View, name="baskets", key="basket_id", stores=("postgres",), delivery="competing"):
    """A basket; each row is folded from one stream."""

    basket_id: str
    items: Mapping[str, int] = Field(default_factory=dict)
    bought_on: date | None = None

    @staticmethod
    @on(ItemPut)
    def put(basket: Baskets, event: ItemPut) -> Baskets:
        quantity = basket.items.get(event.sku, 0) + event.quantity
        return basket.replace(items={**basket.items, event.sku: quantity})

    @staticmethod
    @on(BasketBought)
    def bought(basket: Baskets, event: BasketBought) -> Baskets:
        return basket.replace(bought_on=event.day)


class Demand(
    View,
    name="demand",
    key="sku",
    stores=("postgres",),
    indexes=("sku",),
    delivery="competing",
):
    """How many of an item were put into all baskets; a sum does not depend on their order."""

    sku: str
    quantity: int = 0

    @staticmethod
    @on(ItemPut)
    def put(demand: Demand, event: ItemPut) -> Demand:
        return demand.replace(quantity=demand.quantity + event.quantity)


class GetBasket(Query, name="get-basket", view=Baskets):
    """One basket."""

    basket_id: str


class GetDemand(Query, name="get-demand", view=Demand):
    """How many of one item were put into all baskets."""

    sku: str


class ListDemand(PageQuery, name="list-demand", view=Demand):
    """How many of each item were put into all baskets."""


class BasketAndDemand(Message):
    """What is in a basket, and how many of each item were put into all baskets."""

    basket_id: str
    bought: bool
    wanted: dict[str, int]


class GetBasketAndDemand(ComposedQuery, name="get-basket-and-demand", result=BasketAndDemand):
    """A basket, and how many of its items were put into all baskets."""

    basket_id: str

    def handle(self) -> Composing[BasketAndDemand]:
        basket = yield GetBasket(basket_id=self.basket_id)
        if basket is None:
            return None
        rows = yield [GetDemand(sku=sku) for sku in basket.items]
        return BasketAndDemand(
            basket_id=basket.basket_id,
            bought=basket.bought_on is not None,
            wanted={row.sku: row.quantity for row in rows if row},
        )


ROUTES = [
    Route("GET", "/baskets/{basket_id}", GetBasket),
    Route("GET", "/demand", ListDemand),
    Route("GET", "/demand/{sku}", GetDemand),
    Route("GET", "/baskets/{basket_id}/demand", GetBasketAndDemand),
]
