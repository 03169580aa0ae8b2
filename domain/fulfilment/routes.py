"""Where fulfilments are on the web."""

from domain.fulfilment.views import GetFulfilment, ListFulfilments
from rayfold import Route

ROUTES = [
    Route("GET", "/fulfilments/{order_id}", GetFulfilment),
    Route("GET", "/fulfilments", ListFulfilments),
]
