"""`/schema`: the document. `/docs`: a page that shows it, with nothing from other hosts."""

from __future__ import annotations

from functools import lru_cache

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode

from api.http.auth import Role
from api.http.endpoint import Endpoint
from api.http.pages import Fixed, page_handlers
from api.http.reply import content
from api.openapi.document import openapi
from rayfold import Registry


def openapi_handlers(
    registry: Registry, endpoint: Endpoint, *, secured: bool
) -> list[HTTPRouteHandler]:
    """Return the handlers of the document and of its page; they ask for no credentials."""
    document = content(_encoded(registry, secured), b"application/vnd.oai.openapi+json")
    return [
        endpoint.handler("GET", "/schema", Fixed(document), Role.PUBLIC),
        # Scalar makes its styles at run time.
        *page_handlers(
            endpoint,
            "/docs",
            __package__,
            "docs.html",
            "scalar.js.gz",
            "start.js",
            inline_styles=True,
        ),
    ]


@lru_cache(maxsize=4)
def _encoded(registry: Registry, secured: bool) -> bytes:
    """Return the document, made once: it is half of what an application costs to make."""
    return encode(openapi(registry, secured=secured))
