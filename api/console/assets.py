"""Scripts and styles of the console: its own, and the few that are vendored from npm by a lock."""

from __future__ import annotations

import hashlib
from pathlib import Path

from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Call, Endpoint
from api.http.pages import ALWAYS
from api.http.problems import Problem
from api.http.reply import Fields, Reply, content

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "static", _HERE / "vendor")
_MEDIA_TYPES = {
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_GUARDS: Fields = [
    *((n, v) for n, v in ALWAYS if n != b"cache-control"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"public, max-age=31536000, immutable"),  # changed content has another URL
]


class Assets:
    """Files whose URLs have a digest of their content; they need no credentials."""

    def __init__(self) -> None:
        files = [each for folder in _FOLDERS for each in sorted(folder.iterdir())]
        bodies = {each.name: each.read_bytes() for each in files if each.suffix in _MEDIA_TYPES}
        self._replies = {
            name: content(body, _MEDIA_TYPES[Path(name).suffix], _GUARDS)
            for name, body in bodies.items()
        }
        self._digests = {
            name: hashlib.blake2b(body, digest_size=6).hexdigest() for name, body in bodies.items()
        }

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        return f"/console/static/{name}?{self._digests[name]}"

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [endpoint.handler("GET", "/console/static/{name}", self._file, Role.PUBLIC)]

    async def _file(self, call: Call) -> Reply:
        reply = self._replies.get(call.path["name"])
        if reply is None:
            raise Problem(404, "not-found", "there is no such file")
        return reply
