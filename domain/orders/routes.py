"""Where orders are on the web."""

from domain.orders.commands import (
    AddLine,
    CancelOrder,
    CreateOrder,
    PayOrder,
    PlaceOrder,
    RemoveLine,
    ShipOrder,
)
from domain.orders.queries import GetOrder, GetOrderEntries, GetSales, ListOrders, ListSales
from rayfold import Route

ROUTES = [
    Route("POST", "/orders", CreateOrder, derived_id="order_id"),
    Route("POST", "/orders/{order_id}/lines", AddLine),
    Route("DELETE", "/orders/{order_id}/lines/{sku}", RemoveLine),
    Route("POST", "/orders/{order_id}/place", PlaceOrder),
    Route("POST", "/orders/{order_id}/pay", PayOrder),
    Route("POST", "/orders/{order_id}/ship", ShipOrder),
    Route("POST", "/orders/{order_id}/cancel", CancelOrder),
    Route("GET", "/orders/{order_id}", GetOrder, minimal=GetOrderEntries),
    Route("GET", "/orders/{order_id}/entries", GetOrderEntries),
    Route("GET", "/orders", ListOrders),
    Route("GET", "/sales/{day}", GetSales),
    Route("GET", "/sales", ListSales),
]
