"""The console's front: sign-in, the check of forms, and the pages of problems.

A browser keeps a session (`api.console.sessions`) in a cookie that no script can read and no other
site's page can send. It is valid for the console only: the API accepts only the `Authorization`
header, so no page can make a browser do anything there. Every form contains a word that is derived
from the cookie, which only our own pages can contain. The origin of a form is checked too.
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

COOKIE = "rayfold-session"

FORM_WORD = "form_word"
"""The name of the form field with the word."""

SIGN_IN = "/console/sign-in"

NOT_ENDED = (
    "This browser is signed out. Postgres does not answer, so whoever has a copy of its session is "
    f"signed in until that is {LASTS // 3600} hours old."
)
"""The message if a session could not be ended."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

PAGE_FIELDS: Fields = [
    # With no referrer at all, a browser would hide the origin of our own forms too.
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
            Problem: 503 if the session cannot be looked up.
        """
        kept = _cookie(headers)
        if not kept or b"authorization" in headers:
            return headers
        token = await self._sessions.token(kept)
        return {**headers, b"authorization": b"Bearer " + token} if token else headers

    def check_change(self, headers: Mapping[bytes, bytes]) -> None:
        """Check the origin of a form; its word is checked when it is read."""
        self._origins.check_source(headers)

    def check_word(self, call: Call, fields: Mapping[str, str]) -> None:
        """Check that a form comes from a page that we made for this browser.

        A request with a token in a header is exempt: another site cannot make a browser send it.

        Raises:
            Problem: 403 if it does not.
        """
        kept = _cookie(call.headers)
        if not kept and call.headers.get(b"authorization"):
            return
        shown = fields.get(FORM_WORD, "").encode(errors="replace")
        if not kept or not hmac.compare_digest(_word(kept).encode(), shown):
            raise Problem(
                403, "foreign-form", "this form is not from the current page: load the page again"
            )

    def page(self, call: Call, template: str, status: int = 200, **content: Any) -> Reply:
        """Return a page, or only a part of it if the page itself asks for that."""
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
        """Return the page that shows a problem, or the sign-in page if signing in solves it."""
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
        """Return the form for a token; `said` is what was wrong with the last one."""
        return self._reply("sign_in.html", status, [], {"next": own(to), "said": said})

    async def signed_in(self, call: Call, token: str, to: str) -> Reply:
        """Return a redirect to `to`, with a new session in a cookie."""
        session = await self._sessions.begin(token.encode())
        return _on(own(to), _set_cookie(session.decode(), call))

    async def signed_out(self, call: Call) -> Reply:
        """End the browser's session; return the sign-in page."""
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
    """Return the path if it is the console's, else the console's first page."""
    inside = path == "/console" or path.startswith(("/console/", "/console?"))
    return path if inside and path.isascii() and path.isprintable() else "/console"


def _way_back(scope: Any, headers: Mapping[bytes, bytes]) -> str:
    """Return where to continue: the page itself, if a part of it was requested."""
    if scope["method"] != "GET":
        return "/console"
    if b"hx-request" in headers:
        current = headers.get(b"hx-current-url", b"").decode("latin-1")
        return own("/" + current.partition("://")[2].partition("/")[2])
    query = scope["query_string"].decode("latin-1")
    path = quote(scope["path"])
    return own(f"{path}?{query}" if query else path)


def _cookie(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the value of our cookie."""
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
