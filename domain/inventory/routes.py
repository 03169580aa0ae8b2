"""Where stock is on the web."""

from domain.inventory.stock import ReceiveStock, ReleaseStock, ReserveStock
from domain.inventory.views import GetStock
from rayfold import Route

ROUTES = [
    Route("POST", "/stock/{sku}/receive", ReceiveStock),
    Route("POST", "/stock/{sku}/reserve", ReserveStock),
    Route("POST", "/stock/{sku}/release", ReleaseStock),
    Route("GET", "/stock/{sku}", GetStock),
]
