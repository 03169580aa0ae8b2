"""Pages for people: files of the package, with headers that let nothing else in."""

from __future__ import annotations

from importlib.resources import files

from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.reply import Fields, Reply, content

_MEDIA_TYPES = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
}
ALWAYS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]
"""On every page and every part of one."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'%b; connect-src 'self'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)


class Fixed:
    """Answers with what was made at the start."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __call__(self, call: Call) -> Reply:
        """Return it."""
        return self._reply


def page_handlers(
    endpoint: Endpoint,
    path: str,
    package: str,
    page: str,
    *others: str,
    inline_styles: bool = False,
) -> list[HTTPRouteHandler]:
    """Return handlers of a page at `path`, and of the `others` below it, in a package's `page/`.

    They ask for no credentials. A name that ends in `.gz` is served without that, compressed.
    `inline_styles` is for a page whose script makes its styles; no page has scripts inline.
    """
    styles = b" 'unsafe-inline'" if inline_styles else b""
    policy = (b"content-security-policy", _POLICY % styles)
    paths = {path: page} | {f"{path}/{name.removesuffix('.gz')}": name for name in others}
    return [
        endpoint.handler("GET", each, Fixed(_file(package, name, policy)), Role.PUBLIC)
        for each, name in paths.items()
    ]


def _file(package: str, name: str, policy: tuple[bytes, bytes]) -> Reply:
    body = files(package).joinpath("page", name).read_bytes()
    plain = name.removesuffix(".gz")
    headers = [*ALWAYS, policy]
    if plain != name:
        headers.append((b"content-encoding", b"gzip"))
    return content(body, _MEDIA_TYPES[plain.rsplit(".", 1)[1]], headers)
