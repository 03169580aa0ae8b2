"""How people meet the console: who is signed in, what a form must show, how problems look.

A browser keeps a session (`api.console.sessions`) in a cookie that no script reads and no other
site's page sends. It counts for the console alone: the API's routes know the `Authorization` header
only, so there is nothing that a page could make a browser do there. A form shows a word made of the
cookie, which only a page of ours can have written into it; that it comes from a page of ours is
checked besides.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from api.console.sessions import LASTS, Sessions
from api.console.templates import Templates
from api.http.auth import Principals
from api.http.endpoint import Call
from api.http.origin import Origins
from api.http.pages import ALWAYS
from api.http.problems import Problem
from api.http.reply import Fields, Reply

COOKIE = "rayfold-console"

FORM_WORD = "form_word"
"""The field of every form that has the word."""

SIGN_IN = "/console/sign-in"

NOT_ENDED = (
    "This browser is signed out. Postgres does not answer, so whoever has a copy of its session is "
    f"signed in until that is {LASTS // 3600} hours old."
)
"""What is said where a session could not be ended."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

PAGE_FIELDS: Fields = [
    # With no referrer at all a browser would hide where our own forms come from, too.
    *((name, b"same-origin" if name == b"referrer-policy" else value) for name, value in ALWAYS),
    (b"content-security-policy", _POLICY),
]


class ConsoleFront:
    """See `api.http.endpoint.Front`."""

    def __init__(
        self,
        templates: Templates,
        principals: Principals,
        origins: Origins,
        sessions: Sessions,
    ) -> None:
        self._templates = templates
        self._sessions = sessions
        self._origins = origins
        self.principals = principals

    async def known(self, headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the headers with the token of the browser's session.

        Raises:
            Problem: 503 if nobody can tell whose session it is.
        """
        kept = _cookie(headers)
        if not kept or b"authorization" in headers:
            return headers
        token = await self._sessions.token(kept)
        return {**headers, b"authorization": b"Bearer " + token} if token else headers

    def check_change(self, headers: Mapping[bytes, bytes]) -> None:
        """Check where a form comes from; what it shows is checked when it is read."""
        self._origins.check_source(headers)

    def check_word(self, call: Call, fields: Mapping[str, str]) -> None:
        """Check that a form was written by us, for this browser.

        Who shows a token in a header is no browser that somebody else has led here.

        Raises:
            Problem: 403 if it was not.
        """
        kept = _cookie(call.headers)
        if not kept and call.headers.get(b"authorization"):
            return
        shown = fields.get(FORM_WORD, "").encode(errors="replace")
        if not kept or not hmac.compare_digest(_word(kept).encode(), shown):
            raise Problem(
                403, "foreign-form", "this form is not one of this page's: load the page again"
            )

    def page(self, call: Call, template: str, status: int = 200, **content: Any) -> Reply:
        """Return a page; the part of it that is asked for, where the page itself asks."""
        kept = _cookie(call.headers)
        headers: Fields = []
        if not kept and self.principals.open:
            kept = secrets.token_urlsafe(32).encode()
            headers.append((b"set-cookie", _set_cookie(kept.decode(), call)))
        known = {
            "form_word": _word(kept) if kept else "",
            "principal": None if self.principals.open else call.principal,
            "path": call.scope["path"],
            "partial": b"hx-request" in call.headers,
        }
        return self._reply(template, status, headers, {**known, **content})

    def told(self, scope: Any, problem: Problem) -> Reply:
        """Return the page that tells of a problem; the way to sign in where that is one."""
        headers = dict(scope["headers"])
        partial = b"hx-request" in headers
        more = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        if problem.status == 401:
            here = _way_back(scope, headers)
            if partial:
                to = f"{SIGN_IN}?next={quote(here, safe='')}"
                return self._reply("empty.html", 401, [*more, (b"hx-redirect", to.encode())], {})
            return self._reply("sign_in.html", 401, more, {"next": here, "said": ""})
        content = {
            "problem": problem,
            "partial": partial,
            "principal": None,
            "form_word": _word(kept) if (kept := _cookie(headers)) else "",
            "signed_in": bool(kept) and not self.principals.open,
            "path": scope["path"],
            "here": _way_back(scope, headers),
        }
        return self._reply("problem.html", problem.status, more, content)

    def sign_in_page(self, call: Call, status: int, said: str, to: str) -> Reply:
        """Return the form for a token; `said` is what was wrong with the last."""
        return self._reply("sign_in.html", status, [], {"next": own(to), "said": said})

    async def signed_in(self, call: Call, token: str, to: str) -> Reply:
        """Return the way on, with a session for the browser to keep."""
        session = await self._sessions.begin(token.encode())
        return _on(own(to), _set_cookie(session.decode(), call))

    async def signed_out(self, call: Call) -> Reply:
        """End the browser's session; return the way to sign in."""
        kept = _cookie(call.headers)
        forgotten = _set_cookie("", call) + b"; Max-Age=0"
        if not kept or self.principals.open or await self._sessions.end(kept):
            return _on(SIGN_IN, forgotten)
        content = {"next": "/console", "said": NOT_ENDED}
        return self._reply("sign_in.html", 503, [(b"set-cookie", forgotten)], content)

    def _reply(
        self, template: str, status: int, headers: Fields, content: Mapping[str, Any]
    ) -> Reply:
        body = self._templates.render(template, content)
        fields: Fields = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *((name, b"no-store" if name == b"cache-control" else value)
              for name, value in PAGE_FIELDS),
            (b"vary", b"cookie, hx-request"),
            *headers,
        ]  # fmt: skip
        return Reply(status, fields, body)


def own(path: str) -> str:
    """Return a path of the console; its beginning in place of any other."""
    inside = path == "/console" or path.startswith(("/console/", "/console?"))
    return path if inside and path.isascii() and path.isprintable() else "/console"


def _way_back(scope: Any, headers: Mapping[bytes, bytes]) -> str:
    """Return where to go on: the page itself, where a part of it was asked for."""
    if scope["method"] != "GET":
        return "/console"
    if b"hx-request" in headers:
        current = headers.get(b"hx-current-url", b"").decode("latin-1")
        return own("/" + current.partition("://")[2].partition("/")[2])
    query = scope["query_string"].decode("latin-1")
    path = quote(scope["path"])
    return own(f"{path}?{query}" if query else path)


def _cookie(headers: Mapping[bytes, bytes]) -> bytes:
    """Return what the browser keeps for us."""
    for each in headers.get(b"cookie", b"").replace(b", ", b";").split(b";"):
        name, _, value = each.strip().partition(b"=")
        if name == COOKIE.encode():
            return value
    return b""


def _set_cookie(value: str, call: Call) -> bytes:
    secure = call.scope.get("scheme") == "https" or call.headers.get(b"origin", b"").startswith(
        b"https://"
    )
    kept = f"{COOKIE}={value}; Path=/console; HttpOnly; SameSite=Strict"
    return f"{kept}; Secure".encode() if secure else kept.encode()


def _word(kept: bytes) -> str:
    return hmac.new(kept, b"a form of the console", "sha256").hexdigest()


def _on(to: str, cookie: bytes) -> Reply:
    fields = [
        *PAGE_FIELDS,
        (b"location", to.encode()),
        (b"content-length", b"0"),
        (b"set-cookie", cookie),
    ]
    return Reply(303, fields, b"")
