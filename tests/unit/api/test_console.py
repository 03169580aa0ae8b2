"""The console's pages and forms: who may sign in, what a form needs, hostile data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from actors.errors import Overloaded
from api.console.front import COOKIE
from api.http.auth import Role, Token
from api.http.limits import Limits
from projections.supervision.actor_handle import ActorHandle
from rayfold import Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import FakeAudit, FakeSessions
from tests.unit.api.serving import serving, soon

TOKENS = [Token("olga", "all-of-it", Role.OPERATOR), Token("shop", "s3cret", Role.WRITER)]
OWN = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
PAGES = (
    *("", "/views", "/views/show?view=order-details", "/parked", "/log", "/aggregates"),
    *("/processes", "/schedules", "/publications", "/causality", "/audit", "/access"),
)
QUESTIONS = (
    *("/rebuild?view=order-details", "/scale?target=memory", "/verify", "/replay?view=x"),
    *("/discard?view=x&key=y", "/retry?process=p&key=k", "/abort?process=p&key=k"),
    *("/cancel?command_id=c", "/republish?publication=p", "/delete?stream=order-1"),
)


@pytest.fixture
def notes() -> FakeAudit:
    return FakeAudit()


@pytest.fixture
async def guarded(registry: Registry, notes: FakeAudit) -> AsyncIterator[Gateway]:
    made = Gateway(registry, options={"tokens": TOKENS, "audit": notes})
    async with made.http:
        yield made


async def sign_in(http: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    """Send the form; the client keeps the cookie."""
    sent = {**OWN, **headers}
    return await http.post("/console/sign-in", data={"token": token}, headers=sent)


async def word_of(http: httpx.AsyncClient, page: str) -> str:
    """Return the word in a page's form."""
    reply = await http.get(page)
    assert reply.status_code == 200, reply.text
    [word] = re.findall(r'name="form_word" value="([0-9a-f]+)"', reply.text)
    return str(word)


@pytest.mark.parametrize("path", [*PAGES, *QUESTIONS])
async def test_every_page_is_complete_and_has_a_title(gateway: Gateway, path: str) -> None:
    reply = await gateway.http.get(f"/console{path}")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert re.search(r"<title>[^<]+ · Rayfold</title>", reply.text)
    assert reply.text.count("<h1") == 1
    assert 'href="#main"' in reply.text


OF_PARTS = (*PAGES[:4], "/views/show?view=customer-profiles", *PAGES[6:10])
"""Pages that show what the parts of a stack say of themselves."""


@pytest.mark.parametrize("path", OF_PARTS)
async def test_pages_are_shown_while_parts_are_silent(gateway: Gateway, path: str) -> None:
    said = {
        "position": 7,
        "lag": 2,
        "lag_seconds": 9.0,
        "events": 9,
        "rows": {"order-details": 1},
        "pid": 1,
        "node": "n",
        "memory_bytes": 1_000_000,
        "log_per_second": 1.0,
        "parked": 0,
        "since": "2026-11-28T12:00:00+00:00",
        "per_second": 1.0,
        "error": "TimeoutError",
    }
    whole = {
        name: {"part": name, "ready": True, "restarts": 0, "kind": name.partition(":")[0], **said}
        | {"views": ["order-details", "customer-profiles"]}
        for name in ("memory:all#0", "postgres:all#0of1", "redis:all#0of1")
    }
    silent = ActorHandle("memory:all#1", "memory", ["order-details"], object, owned=False)
    for name, part in whole.items():
        for left_out in [set(), *({key} for key in said), {*said}]:
            changed = {key: value for key, value in part.items() if key not in left_out}
            others = [each for other, each in whole.items() if other != name]
            gateway.operations.known = [
                changed | {"ready": False},
                *others,
                silent.status(9, 1.0),
            ]
            reply = await gateway.http.get(f"/console{path}")
            assert reply.status_code == 200, (left_out, reply.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/live/view?view=no-such", 404), ("/live/view", 422), ("/live/no-such", 404)],
)
async def test_a_missing_page_has_no_live_updates(gateway: Gateway, path: str, status: int) -> None:
    reply = await gateway.http.get(f"/console{path}")
    assert reply.status_code == status, reply.text


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_token_every_page_shows_the_sign_in_form(
    guarded: Gateway, path: str
) -> None:
    reply = await guarded.http.get(f"/console{path}")
    assert reply.status_code == 401
    assert 'action="/console/sign-in"' in reply.text
    [to] = re.findall(r'name="next" value="([^"]+)"', reply.text)
    assert unescape(to) == f"/console{path}"
    part = await guarded.http.get(f"/console{path}", headers={"hx-request": "true"})
    assert part.status_code == 401
    assert part.headers["hx-redirect"].startswith("/console/sign-in?next=")


async def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(
    guarded: Gateway,
) -> None:
    reply = await sign_in(guarded.http, "all-of-it")
    assert (reply.status_code, reply.headers["location"]) == (303, "/console")
    kept = reply.headers["set-cookie"]
    attributes = "Path=/console; HttpOnly; SameSite=Strict"
    assert re.fullmatch(rf"rayfold-session=[\w-]{{43}}; {attributes}", kept)
    page = await guarded.http.get("/console")
    assert page.status_code == 200
    assert "olga" in page.text
    behind_tls = {"origin": "https://shop.example", "host": "shop.example"}
    secured = await sign_in(guarded.http, "all-of-it", **behind_tls)
    assert secured.headers["set-cookie"].endswith("; Secure")


async def status_with(gateway: Gateway, cookie: str) -> int:
    """Return what the console answers to whoever shows a cookie."""
    gateway.http.cookies.clear()
    reply = await gateway.http.get("/console", headers={"cookie": f"{COOKIE}={cookie}"})
    return reply.status_code


async def test_signing_out_ends_the_session_at_every_gateway(registry: Registry) -> None:
    sessions = FakeSessions()
    options = {"tokens": TOKENS, "sessions": sessions}
    one, two = (Gateway(registry, options=dict(options)) for _ in range(2))
    await sign_in(one.http, "all-of-it")
    cookie = one.http.cookies[COOKIE]
    [sealed] = sessions.kept.values()
    for kept in (cookie.encode(), sealed, *sessions.kept):
        assert b"all-of-it" not in kept
    assert await status_with(two, cookie) == 200
    shown = {**OWN, "cookie": f"{COOKIE}={cookie}"}
    out = await two.http.post("/console/sign-out", headers=shown)
    assert (out.status_code, out.headers["location"]) == (303, "/console/sign-in")
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert [await status_with(each, cookie) for each in (one, two)] == [401, 401]


async def test_a_session_ends_with_the_token_that_began_it(registry: Registry) -> None:
    sessions = FakeSessions()
    one = Gateway(registry, options={"tokens": TOKENS, "sessions": sessions})
    await sign_in(one.http, "all-of-it")
    changed = [Token("olga", "another-one", Role.OPERATOR), *TOKENS[1:]]
    two = Gateway(registry, options={"tokens": changed, "sessions": sessions})
    assert await status_with(two, one.http.cookies[COOKIE]) == 401


async def test_who_is_signed_in_stays_so_while_sessions_cannot_be_checked(
    registry: Registry,
) -> None:
    sessions = FakeSessions()
    options = {"tokens": TOKENS, "sessions": sessions}
    one, two = (Gateway(registry, options=dict(options)) for _ in range(2))
    await sign_in(one.http, "all-of-it")
    before = one.http.cookies[COOKIE]
    sessions.away = True
    assert [await status_with(each, before) for each in (one, two)] == [200, 503]
    page = await two.http.get("/console", headers={"cookie": f"{COOKIE}={before}"})
    assert "whether you are signed in cannot be checked now" in page.text
    assert "it is away" not in page.text  # what a driver says has addresses
    await sign_in(one.http, "all-of-it")
    meanwhile = one.http.cookies[COOKIE]
    assert await status_with(one, meanwhile) == 200
    out = await one.http.post("/console/sign-out", headers={**OWN, "cookie": f"{COOKIE}={before}"})
    assert out.status_code == 503
    assert "until that is 8 hours old" in out.text
    assert "Max-Age=0" in out.headers["set-cookie"]
    sessions.away = False
    assert [await status_with(each, meanwhile) for each in (one, two)] == [200, 401]


async def test_live_updates_end_with_the_session(registry: Registry) -> None:
    limits = Limits(token_checked=0.02)
    gateway = Gateway(registry, options={"tokens": TOKENS, "limits": limits})
    await sign_in(gateway.http, "all-of-it")
    cookie, port = gateway.http.cookies[COOKIE], free_port()
    request = "GET /console/live/views HTTP/1.1\r\nHost: localhost\r\nConnection: close"
    async with serving(gateway, port, limits):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request}\r\nCookie: {COOKIE}={cookie}\r\n\r\n".encode())
        assert b" 200 " in await soon(reader.readline())
        await gateway.http.post("/console/sign-out", headers=OWN)
        await soon(reader.read())
        writer.close()


@pytest.mark.parametrize(
    ("token", "status"), [("", 422), ("nobody", 401), ("s3cret", 403), ("x" * 9000, 401)]
)
async def test_only_operators_can_sign_in(guarded: Gateway, token: str, status: int) -> None:
    reply = await sign_in(guarded.http, token)
    assert reply.status_code == status
    assert "set-cookie" not in reply.headers
    assert 'role="alert"' in reply.text


@pytest.mark.parametrize(
    "to", ["https://evil.example/console", "//evil.example", "/operators/status", "/consoles", "\\"]
)
async def test_signing_in_redirects_to_the_console_only(guarded: Gateway, to: str) -> None:
    form = {"token": "all-of-it", "next": to}
    reply = await guarded.http.post("/console/sign-in", data=form, headers=OWN)
    assert reply.headers["location"] == "/console"


async def test_the_cookie_is_accepted_by_the_console_only(guarded: Gateway) -> None:
    await sign_in(guarded.http, "all-of-it")
    headers = {"cookie": f"{COOKIE}={guarded.http.cookies[COOKIE]}"}
    for path in ("/operators/status", "/metrics", "/processes"):
        assert (await guarded.http.get(path, headers=headers)).status_code == 401


async def test_a_form_does_what_its_page_offered(guarded: Gateway, notes: FakeAudit) -> None:
    await sign_in(guarded.http, "all-of-it")
    word = await word_of(guarded.http, "/console/scale?target=memory")
    form = {"form_word": word, "what": "target=memory", "n": "3"}
    reply = await guarded.http.post("/console/scale", data=form, headers=OWN)
    assert reply.status_code == 200, reply.text
    assert "memory: 3" in reply.text
    assert guarded.operations.scaled == [("memory", 3)]
    assert notes.asked_for == [("olga", "scale", b'{"target":"memory","n":3}')]


ACTIONS = {
    "rebuild": (
        "rebuild",
        "view=order-details",
        b'{"view":"order-details","accept_parked":false}',
    ),
    "scale": ("scale", "target=memory&n=2", b'{"target":"memory","n":2}'),
    "verify": ("verify", "", b"{}"),
    "replay": ("replay", "view=x", b'{"view":"x","key":""}'),
    "discard": ("discard", "view=x&key=a%00%0Ab", b'{"view":"x","key":"a\\u0000\\nb"}'),
    "delete": ("delete", "stream=order-1", b'{"stream":"order-1","tombstone":false}'),
    "forget": ("forget", "subject=ada", b'{"subject":"ada"}'),
    "retry": ("retry", "process=p&key=k", b'{"process":"p","key":"k"}'),
    "abort": ("abort", "process=p&key=k", b'{"process":"p","key":"k","as_it_is":false}'),
    "cancel": ("cancel", "command_id=c", b'{"command_id":"c"}'),
    "republish": (
        "replay",
        "publication=p",
        b'{"publication":"p","key":null,"after":null,"until":null}',
    ),
}
"""By the last part of the path: as what it is noted, and with which arguments."""


async def test_every_action_is_audited_as_that_of_the_api(
    guarded: Gateway, notes: FakeAudit
) -> None:
    posts = {
        path.removeprefix("/console/")
        for (method, path), access in guarded.app.access.items()
        if method == "POST" and path.startswith("/console/") and access.role is Role.OPERATOR
    }
    assert posts == set(ACTIONS)
    await sign_in(guarded.http, "all-of-it")
    word = await word_of(guarded.http, "/console/verify")
    for path, (name, what, arguments) in ACTIONS.items():
        form = {"form_word": word, "what": what}
        reply = await guarded.http.post(f"/console/{path}", data=form, headers=OWN)
        assert notes.asked_for[-1] == ("olga", name, arguments)
        refused = bool(notes.failures) and notes.failures[-1][0] == f"note-{len(notes.asked_for)}"
        assert refused == (reply.status_code != 200), (path, reply.text)


@pytest.mark.parametrize("word", ["", "0" * 64, None, "é", "\x00"])
async def test_a_form_without_the_word_of_its_page_is_refused(
    guarded: Gateway, notes: FakeAudit, word: str | None
) -> None:
    await sign_in(guarded.http, "all-of-it")
    form = {"what": "target=memory", "n": "3"} | ({} if word is None else {"form_word": word})
    reply = await guarded.http.post("/console/scale", data=form, headers=OWN)
    assert reply.status_code == 403
    assert "foreign-form" in reply.text
    assert (guarded.operations.scaled, notes.asked_for) == ([], [])


async def test_without_tokens_a_form_needs_the_word_of_its_page_too(gateway: Gateway) -> None:
    form = {"what": "target=memory", "n": "3"}
    refused = await gateway.http.post("/console/scale", data=form)
    assert refused.status_code == 403
    form["form_word"] = await word_of(gateway.http, "/console/scale?target=memory")
    assert (await gateway.http.post("/console/scale", data=form, headers=OWN)).status_code == 200
    gateway.http.cookies.clear()
    again = await gateway.http.post("/console/scale", data=form, headers=OWN)
    assert again.status_code == 403
    assert gateway.operations.scaled == [("memory", 3)]


async def test_wrong_input_in_a_form_is_explained(gateway: Gateway) -> None:
    word = await word_of(gateway.http, "/console/scale?target=memory")
    for form in ({"what": "target=memory", "n": "many"}, {"what": ""}, {"what": "view=x", "n": ""}):
        sent = {**form, "form_word": word}
        reply = await gateway.http.post("/console/scale", data=sent, headers=OWN)
        assert reply.status_code == 422
        assert 'role="alert"' in reply.text
    reply = await gateway.http.post("/console/scale", content=b"\xff\xfe", headers=OWN)
    assert reply.status_code == 400
    json = {**OWN, "content-type": "application/json"}
    reply = await gateway.http.post("/console/scale", content=b"{}", headers=json)
    assert reply.status_code == 415
    assert gateway.operations.scaled == []


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://evil.example", "host": "evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", ["/console/scale", "/console/discard", "/console/sign-in"])
async def test_a_form_on_another_site_is_refused(
    gateway: Gateway, headers: dict[str, str], path: str
) -> None:
    word = await word_of(gateway.http, "/console/scale?target=memory")
    form = {"form_word": word, "what": "target=memory", "n": "3", "token": "t"}
    reply = await gateway.http.post(path, data=form, headers=headers)
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers
    assert gateway.operations.scaled == []


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7:8000", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/console", "/console/log", "/console/live/overview"])
async def test_a_foreign_host_name_that_resolves_here_shows_nothing(
    gateway: Gateway, path: str, host: str
) -> None:
    reply = await gateway.http.get(path, headers={"host": host})
    assert reply.status_code == 403
    assert "foreign-host" in reply.text


async def test_another_site_may_link_to_a_page_but_not_read_it(gateway: Gateway) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    reply = await gateway.http.get("/console/log?stream=order-1", headers=headers)
    assert reply.status_code == 403
    assert 'href="/console/log?stream=order-1"' in reply.text


async def test_a_stack_that_does_not_answer_is_reported_on_the_page(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise Overloaded

    for name in ("parts", "parked"):
        monkeypatch.setattr(gateway.operations, name, away)
    page = await gateway.http.get("/console")
    assert page.status_code == 200
    assert "The status of the parts is unknown" in page.text
    page = await gateway.http.get("/console/parked")
    assert page.status_code == 503
    assert "Open this page" in page.text


async def test_an_internal_error_is_reported_on_a_page_too(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("of ours")

    monkeypatch.setattr(gateway.operations, "parked", broken)
    page = await gateway.http.get("/console/parked")
    assert page.status_code == 500
    assert page.headers["content-type"].startswith("text/html")
    assert "this is an error of the server" in page.text
    assert "of ours" not in page.text


EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{7*7}}\u202e\x00"""


def an_evil_event() -> dict[str, Any]:
    """Return an event with markup wherever somebody may have written."""
    return {
        "type": EVIL,
        "stream": f"order-{EVIL}",
        "revision": 0,
        "position": 1,
        "recorded_at": EVIL,
        "data": {EVIL: EVIL},
        "metadata": {EVIL: EVIL, "principal": EVIL, "$correlationId": EVIL},
    }


class EvilBrowser:
    """A log on which everything is markup."""

    async def page(self, **_: Any) -> dict[str, Any]:
        return {"events": [an_evil_event()], "next": 1, "looked": 1}

    async def event(self, stream: str, revision: int) -> dict[str, Any]:
        return an_evil_event()

    async def through_time(self, stream: str, revision: int | None = None) -> dict[str, Any]:
        state = {EVIL: EVIL}
        event = an_evil_event()
        of = {"first": 0, "last": 1, "event": event, "before": {}, "state": state, "error": EVIL}
        return {"stream": stream, **of}


class EvilOperations:
    """Parts, views and parked events with markup for names."""

    def __init__(self) -> None:
        self.known = {
            "part": EVIL,
            "kind": "memory",
            "node": EVIL,
            "views": ["order-details", EVIL],
            "ready": False,
            "error": EVIL,
            "position": 1,
            "lag": 3,
            "lag_seconds": 9.0,
            "parked": 1,
            "stopped": {EVIL: EVIL},
            "poison": [{"view": EVIL, "key": EVIL, "event": EVIL, "reason": EVIL}],
        }
        self.held = {"store": "memory", "view": EVIL, "key": EVIL, "stream": EVIL, "revision": 0}
        self.held |= {"position": 1, "error": EVIL, "by_store": True}

    async def parts(self) -> list[dict[str, Any]]:
        return [self.known]

    async def moves(self) -> list[dict[str, Any]]:
        return [{"target": EVIL, "from": 1, "to": 2, "reason": EVIL, "at": EVIL}]

    async def rebuilds(self) -> list[dict[str, Any]]:
        return [{"view": "order-details", "state": "failed", "error": EVIL, "store": None}]

    async def parked(self, *_: Any) -> list[dict[str, Any]]:
        return [self.held]

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any]:
        return an_evil_event() | {"data": EVIL}

    async def causality(self, asked: Any, scan: int) -> dict[str, Any]:
        application = {"store": "memory", "view": EVIL, "key": EVIL, "status": EVIL, "error": EVIL}
        out = {"publication": EVIL, "type": EVIL, "id": EVIL, "status": EVIL, "error": EVIL}
        event = {**an_evil_event(), "applications": [application], "outgoing": [out]}
        step = {**an_evil_event(), "process": EVIL, "key": EVIL, "sends": [EVIL], "outgoing": [out]}
        command = {"command": EVIL, "command_id": EVIL, "status": EVIL, "principal": EVIL}
        command |= {"stream": EVIL, "scheduled": {"not_before": EVIL}, "detail": EVIL, "depth": 9}
        found = {"correlation_id": EVIL, "complete": False, "read": 1, "left_out": 1}
        return {
            **found,
            "commands": [{**command, "events": [event], "steps": [step | {"error": EVIL}]}],
        }


class EvilProcesses:
    """One process, all markup."""

    async def list(self, name: str | None, **_: Any) -> dict[str, Any]:
        one = {"process": EVIL, "key": EVIL, "status": EVIL, "error": EVIL, "next_timeout": EVIL}
        return {"processes": [one], "total": 1}

    async def schedules(self, limit: int) -> dict[str, Any]:
        timeout = {"due": EVIL, "process": EVIL, "key": EVIL, "timeout": EVIL}
        command = {"due": EVIL, "command": EVIL, "stream": EVIL, "command_id": EVIL, "error": EVIL}
        return {"schedules": [timeout], "commands": [command], "total": 2}

    async def show(self, name: str, key: str) -> dict[str, Any]:
        step = {
            "type": EVIL,
            "revision": 0,
            "recorded_at": EVIL,
            "data": {"decided": [{"type": EVIL, "command": EVIL}]},
        }
        waiting = [{"command_id": EVIL, "command": EVIL}]
        told = {"process": EVIL, "key": EVIL, "status": "parked", "state": {EVIL: EVIL}}
        return {
            **told,
            "error": EVIL,
            "waiting_commands": waiting,
            "timeouts": {EVIL: EVIL},
            "steps": [step],
        }


class EvilPublications:
    """One publication, all markup."""

    async def list(self, *_: Any) -> dict[str, Any]:
        key = {"key": EVIL, "stream": EVIL, "revision": 0, "position": 0, "since": EVIL}
        one = {"publication": EVIL, "target": EVIL, "carries": [EVIL], "status": EVIL}
        one |= {"published": 1, "lag": 1, "error": EVIL, "parked_keys": 101}
        return {"publications": [one | {"parked": [key | {"error": EVIL}] * 101}]}


class EvilNotes(FakeAudit):
    """Notes of an operator who is markup, and of somebody who writes what we do not."""

    async def last(self, limit: int) -> list[dict[str, Any]]:
        note = {"type": "OperatorAsked", "id": "1", "at": EVIL, "principal": EVIL, "action": EVIL}
        failed = {"type": "OperatorFailed", "asked": "1", "status": 500, "reason": EVIL}
        return [
            failed,
            {**note, "arguments": {EVIL: EVIL, "n": 1}},
            {**note, "id": 2, "arguments": EVIL},
            {**note, "id": [EVIL]},
            {"type": "OperatorFailed"},
            {"type": "OperatorFailed", "asked": {EVIL: 1}},
        ]


SHOWING_EVIL = (
    *("", "/views", "/views/show?view=order-details", "/parked", "/log", "/processes"),
    *("/schedules", "/publications", "/audit", f"/causality?id={quote(EVIL)}"),
    f"/log?stream={quote(EVIL)}&type={quote(EVIL)}&about={quote(EVIL)}",
    f"/log/event?stream={quote(EVIL)}&revision=0",
    f"/aggregates?stream={quote(EVIL)}",
    f"/processes/show?process={quote(EVIL)}&key={quote(EVIL)}",
    f"/parked/event?store=memory&view={quote(EVIL)}&key={quote(EVIL)}"
    f"&stream={quote(EVIL)}&revision=0",
    f"/views/show?view={quote(EVIL)}",
    f"/discard?view={quote(EVIL)}&key={quote(EVIL)}",
    f"/sign-in?next={quote(EVIL)}",
)


@pytest.mark.parametrize("path", SHOWING_EVIL)
async def test_stored_markup_is_shown_as_text(registry: Registry, path: str) -> None:
    evil = Gateway(registry)
    evil.operations = EvilOperations()  # type: ignore[assignment]
    evil.options = {
        "browser": EvilBrowser(),
        "processes": EvilProcesses(),
        "publications": EvilPublications(),
        "audit": EvilNotes(),
    }
    evil.__post_init__()
    async with evil.http as http:
        reply = await http.get(f"/console{path}")
    assert reply.status_code < 500, reply.text
    text = reply.text
    assert len(re.findall(r"<script", text)) == len(re.findall(r'<script src="/console/', text))
    assert "<img src=x" not in text
    assert not re.search(r"<[^>]*\sonerror=[^>]*>", re.sub(r'"[^"]*"', '""', text))
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "{{7*7}}" in text or "7*7" not in text


async def test_every_answer_forbids_browsers_to_run_other_scripts(guarded: Gateway) -> None:
    routes = [(method, path) for method, path in guarded.app.access]
    asked = [("GET", "/nowhere"), ("PUT", "/orders"), ("OPTIONS", "/orders"), *routes]
    for method, path in asked:
        concrete = re.sub(r"{[^}]*}", "x", path)
        verb = "HEAD" if method == "GET" else method
        for secret in ("", "all-of-it"):
            headers = {"authorization": f"Bearer {secret}"} if secret else {}
            reply = await guarded.http.request(verb, concrete, headers=headers, content=b"{}")
            told = reply.headers
            assert told.get_list("x-content-type-options") == ["nosniff"], (method, path)
            assert told["referrer-policy"] in ("no-referrer", "same-origin")
            policy = told["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script-src 'unsafe" not in policy
