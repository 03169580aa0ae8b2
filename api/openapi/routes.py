"""`/schema`: the document. `/docs`: a page that shows it, with nothing from other hosts."""

from __future__ import annotations

from importlib.resources import files

from litestar.handlers import HTTPRouteHandler
from msgspec.json import encode

from api.http.endpoint import Call, Endpoint
from api.http.reply import Fields, Reply, content
from api.openapi.document import openapi
from rayfold import Registry

_FOLDER = files("api.openapi").joinpath("page")
_NO_CACHE = (b"cache-control", b"no-cache")
_COMPRESSED: Fields = [
    (b"content-encoding", b"gzip"),
    (b"cache-control", b"public, max-age=86400"),
]
# Scalar makes its styles at run time, hence `unsafe-inline` for them, and for nothing else.
_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"connect-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)


def openapi_handlers(
    registry: Registry, endpoint: Endpoint, *, secured: bool
) -> list[HTTPRouteHandler]:
    """Return the handlers of the document and of its page; they ask for no credentials."""
    document = content(
        encode(openapi(registry, secured=secured)), b"application/vnd.oai.openapi+json"
    )
    page = content(_read("docs.html"), b"text/html; charset=utf-8", [_NO_CACHE, _POLICY])
    script = content(_read("scalar.js.gz"), b"text/javascript; charset=utf-8", _COMPRESSED)
    start = content(_read("start.js"), b"text/javascript; charset=utf-8", [_NO_CACHE])
    served = {
        "/schema": document,
        "/docs": page,
        "/docs/scalar.js": script,
        "/docs/start.js": start,
    }
    return [
        endpoint.handler("GET", path, _Fixed(reply), public=True) for path, reply in served.items()
    ]


class _Fixed:
    """Answers with what was made at the start."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __call__(self, call: Call) -> Reply:
        return self._reply


def _read(name: str) -> bytes:
    return _FOLDER.joinpath(name).read_bytes()
