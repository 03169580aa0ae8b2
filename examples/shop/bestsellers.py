"""What sells best on a day: an event says that a basket was bought, others what was in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from examples.shop.baskets import BasketBought, ItemPut
from rayfold import Message, Route, SqlProjection, SqlQuery, Statement, on, sql


class Bestsellers(SqlProjection, name="bestsellers"):
    """Two tables, one of which is filled from the other."""

    schema = """
        CREATE TABLE put (
            basket_id text, sku text, quantity bigint, PRIMARY KEY (basket_id, sku));
        CREATE TABLE sold (
            day date, sku text, quantity bigint, PRIMARY KEY (day, sku));
        CREATE INDEX ON sold (day, quantity DESC, sku);
    """

    @staticmethod
    @on(ItemPut)
    def item_put(event: ItemPut) -> Iterable[Statement]:
        yield sql(
            "INSERT INTO put VALUES ($1, $2, $3) ON CONFLICT (basket_id, sku)"
            " DO UPDATE SET quantity = put.quantity + excluded.quantity",
            event.basket_id,
            event.sku,
            event.quantity,
        )

    @staticmethod
    @on(BasketBought)
    def bought(event: BasketBought) -> Iterable[Statement]:
        yield sql(
            "INSERT INTO sold SELECT $2::date, sku, quantity FROM put WHERE basket_id = $1"
            " ON CONFLICT (day, sku) DO UPDATE SET quantity = sold.quantity + excluded.quantity",
            event.basket_id,
            event.day,
        )
        yield sql("DELETE FROM put WHERE basket_id = $1", event.basket_id)


class Seller(Message):
    """How often an item was bought."""

    sku: str
    quantity: int


class TopSellers(SqlQuery, name="top-sellers", projection=Bestsellers, row=Seller):
    """What was bought most on a day."""

    day: date

    def statement(self) -> Statement:
        return sql(
            "SELECT sku, quantity FROM sold WHERE day = $1 ORDER BY quantity DESC, sku", self.day
        )


ROUTES = [Route("GET", "/bestsellers/{day}", TopSellers)]
