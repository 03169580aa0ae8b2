"""`/schema`: the document. `/docs`: a page that shows it, with nothing from other hosts."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.pages import ALWAYS
from api.http.reply import Reply, content
from api.openapi.document import openapi
from rayfold import Registry

_HTML, _JS = b"text/html; charset=utf-8", b"text/javascript; charset=utf-8"

_PAGE = {
    "/docs": ("docs.html", _HTML),
    "/docs/scalar.js": ("scalar.js.gz", _JS),
    "/docs/start.js": ("start.js", _JS),
}
"""By path: a file of `page/` and its media type."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""Inline styles are allowed, as Scalar makes its styles at run time; inline scripts are not."""


def openapi_handlers(
    registry: Registry, endpoint: Endpoint, *, secured: bool
) -> list[HTTPRouteHandler]:
    """Return the handlers of the document and of its page; they ask for no credentials."""
    document = content(_encoded(registry, secured), b"application/vnd.oai.openapi+json")
    answers = {"/schema": document} | {path: _file(*each) for path, each in _PAGE.items()}
    return [
        endpoint.handler("GET", path, _Fixed(reply), Role.PUBLIC) for path, reply in answers.items()
    ]


class _Fixed:
    """Answers with content that was made at the start."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __call__(self, call: Call) -> Reply:
        return self._reply


def _file(name: str, media_type: bytes) -> Reply:
    headers = [*ALWAYS, (b"content-security-policy", _POLICY)]
    if name.endswith(".gz"):
        headers.append((b"content-encoding", b"gzip"))
    body = files(__package__).joinpath("page", name).read_bytes()
    return content(body, media_type, headers)


@lru_cache(maxsize=4)
def _encoded(registry: Registry, secured: bool) -> bytes:
    """Return the document, made once: that is half of the time to make an application."""
    return encode(openapi(registry, secured=secured))
