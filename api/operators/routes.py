"""Routes for operators: metrics, status, scaling, verification, parked events."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Annotated, Any, Protocol

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.http.auth import Role
from api.http.endpoint import Audits, Call, Endpoint, Handler, Method
from api.http.headers import ids_of
from api.http.problems import Problem, invalid_field
from api.http.reply import Reply, content, json_reply
from api.operators.bodies import read_body
from api.operators.metrics import OPEN_METRICS, TEXT, Metrics
from api.operators.parked_places import PARKED_PAGE, decode_place, encode_place, page_limit
from api.operators.processes import ProcessAbort, ProcessOrder
from api.operators.publications import Republish
from api.operators.recent_errors import RecentErrors
from api.queries.routes import known_parameters, parameters
from projections.parked_pages import BEFORE_ALL, place_of
from rayfold import RayfoldError


class Operations(Protocol):
    """What an operator can do to the parts."""

    async def parts(self) -> list[dict[str, Any]]:
        """Return every part: `part`, `kind`, `ready`, and counts."""
        ...

    async def scale(self, target: str, count: int) -> None:
        """Set the number of a target's parts; raise `RayfoldError` if that is impossible."""
        ...

    async def verify(self) -> list[dict[str, Any]]:
        """Return the differences between every view in every store and a fresh fold of the log."""
        ...

    async def moves(self) -> list[dict[str, Any]]:
        """Return the last changes of scale with their reasons, the newest first."""
        ...

    async def rebuild(self, view: str, *, accept_parked: bool) -> dict[str, Any]:
        """Begin to rebuild a view and return its status; raise `RayfoldError` if impossible."""
        ...

    async def rebuilds(self) -> list[dict[str, Any]]:
        """Return the last rebuild of each view."""
        ...

    async def parked(
        self, view: str = "", key: str = "", after: Sequence[Any] = (), limit: int = 0
    ) -> list[dict[str, Any]]:
        """Return the parked rows and streams, each with its event and error.

        They may be restricted to a `view`, to a `key` or stream, to those listed after a place
        (position, view, key, stream and store), and to a `limit`.
        """
        ...

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """Return an event as the log has it."""
        ...

    async def causality(self, asked: Sequence[str], scan: int) -> dict[str, Any] | None:
        """Return what belongs to a command, a correlation or an event; None if that is unknown.

        `asked` are possible meanings of one text. `scan` is the number of records to read.
        """
        ...

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """Fold parked events again; return which, and whether each is still `parked`."""
        ...

    async def delete(self, stream: str, *, tombstone: bool) -> list[str]:
        """Delete an aggregate's stream; return the views that keep data from it.

        Raises `RayfoldError` if that is impossible.
        """
        ...

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """Skip a parked event and fold the events after it; returns the same as `replay`."""
        ...

    async def forget(self, subjects: Sequence[str]) -> dict[str, Any]:
        """Destroy the keys of subjects; return whose were destroyed, now or before, and `unknown`.

        Decrypted data is removed afterwards; `views` are rebuilt for that: see `forgetting`.
        Raises `RayfoldError` if the domain has no personal data.
        """
        ...

    async def forgetting(self) -> dict[str, Any]:
        """Return the subjects of whom data may be `left`, and the last `error` that delayed it."""
        ...


class OrderedLog(Protocol):
    """See `projections.queries.log_browser.LogBrowser`."""

    async def after(self, place: int | None, *, stream: str = "", limit: int = 0) -> dict[str, Any]:
        """See `LogBrowser.after`."""
        ...


AUDIT_PAGE = 50

EVENTS_PAGE = 100

SCAN = 50_000
"""Records of the log that a search for causes and effects reads in each direction."""

MAX_SCAN = 5_000_000

MAX_ASKED = 1100
"""The most characters of a stream's name with a revision."""

_SCAN = re.compile(r"[1-9][0-9]{0,6}\Z")

_REVISION = re.compile(r"([0-9]{1,18})(\.0+)?\Z")


class Rebuild(msgspec.Struct, forbid_unknown_fields=True):
    """Which view, or SQL projection, is folded again from the log.

    What serves is not replaced by what has parked more keys, unless that is accepted.
    """

    view: str
    accept_parked: bool = False


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """Which key of a view is folded again; all that are parked in it where `key` is empty."""

    view: str
    key: str = ""


class Discard(msgspec.Struct, forbid_unknown_fields=True):
    """Which key of a view goes on without the event behind which it is parked."""

    view: str
    key: str


class Delete(msgspec.Struct, forbid_unknown_fields=True):
    """Which stream is deleted; with `tombstone` its name can never be used again."""

    stream: str
    tombstone: bool = False


class Forget(msgspec.Struct, forbid_unknown_fields=True):
    """Whose personal data is to be unreadable from now on, for good."""

    subjects: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    """How many parts there are of `write`, `memory`, `postgres`, or of one.

    One view's are `memory:VIEW` and `postgres:VIEW`; then `process:NAME`, `reactor:NAME`.
    """

    target: str
    n: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": 64})]


REQUESTS: tuple[type[msgspec.Struct], ...] = (
    Rebuild,
    Replay,
    Discard,
    Scale,
    Delete,
    Forget,
    ProcessOrder,
    ProcessAbort,
    Republish,
)
"""The bodies that operators send."""


class OperatorRoutes:
    """Handlers over a running stack."""

    def __init__(
        self, operations: Operations, metrics: Metrics, audit: Audits, log: OrderedLog
    ) -> None:
        self._operations = operations
        self._metrics = metrics
        self._audit = audit
        self._log = log

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the handlers; without tokens they answer only to this machine."""

        def handler(method: Method, path: str, handle: Handler) -> HTTPRouteHandler:
            return endpoint.handler(method, path, handle, Role.OPERATOR)

        return [
            handler("GET", "/metrics", self._prometheus),
            handler("GET", "/operators/status", partial(self._status, endpoint.recent_errors)),
            handler("GET", "/operators/verify", self._verify),
            handler("GET", "/operators/audit", self._told),
            handler("POST", "/operators/scale", self._scale),
            handler("GET", "/operators/rebuilds", self._rebuilds),
            handler("POST", "/operators/rebuild", self._rebuild),
            handler("GET", "/operators/parked", self._parked),
            handler("GET", "/operators/events", self._events),
            handler("GET", "/operators/events/{stream}/{revision}", self._event),
            handler("GET", "/operators/causality", self._causality),
            handler("POST", "/operators/replay", self._replay),
            handler("POST", "/operators/discard", self._discard),
            handler("POST", "/operators/delete", self._delete),
            handler("GET", "/operators/forgetting", self._forgetting),
            handler("POST", "/operators/forget", self._forget),
        ]

    async def _prometheus(self, call: Call) -> Reply:
        # Only OpenMetrics has exemplars; Prometheus asks for that format.
        is_open = b"application/openmetrics-text" in call.headers.get(b"accept", b"")
        parts = await self._operations.parts()
        rebuilds = await if_known(self._operations.rebuilds())
        text = self._metrics.text(parts, rebuilds, open_metrics=is_open)
        return content(text.encode(), OPEN_METRICS if is_open else TEXT)

    async def _status(self, recent_errors: RecentErrors, call: Call) -> Reply:
        parts = await self._operations.parts()
        return json_reply(
            {
                "parts": parts,
                "scaling": await if_known(self._operations.moves()),
                "rebuilds": await if_known(self._operations.rebuilds()),
                "errors": recent_errors.last(),
            }
        )

    async def _verify(self, call: Call) -> Reply:
        return json_reply({"differences": await self._operations.verify()})

    async def _told(self, call: Call) -> Reply:
        limit = page_limit(parameters(call.query_string), AUDIT_PAGE)
        return json_reply({"audit": await self._audit.last(limit)})

    async def _scale(self, call: Call) -> Reply:
        wanted = await read_body(call, Scale)
        await self._operations.scale(wanted.target, wanted.n)
        return json_reply({"target": wanted.target, "n": wanted.n})

    async def _rebuilds(self, call: Call) -> Reply:
        return json_reply({"rebuilds": await self._operations.rebuilds()})

    async def _rebuild(self, call: Call) -> Reply:
        wanted = await read_body(call, Rebuild)
        begun = await self._operations.rebuild(wanted.view, accept_parked=wanted.accept_parked)
        return json_reply(begun, 202)

    async def _parked(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "view", "key", "limit", "cursor")
        limit = page_limit(given, PARKED_PAGE)
        after = decode_place(given["cursor"], BEFORE_ALL) if given.get("cursor") else ()
        found = await self._operations.parked(
            given.get("view", ""), given.get("key", ""), after, limit + 1
        )
        page = found[:limit]
        cursor = encode_place(place_of(page[-1])) if len(found) > len(page) else None
        return json_reply({"parked": page, "next_cursor": cursor})

    async def _events(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "stream", "after", "limit")
        limit = page_limit(given, EVENTS_PAGE)
        after = given.get("after")
        place = None if after is None else _REVISION.match(after)
        if after is not None and place is None:
            raise invalid_field("after", "is neither a position nor a revision of one stream")
        found = await self._log.after(
            None if place is None else int(place[1]), stream=given.get("stream", ""), limit=limit
        )
        return json_reply(found)

    async def _event(self, call: Call) -> Reply:
        stream, revision = call.path["stream"], call.path["revision"]
        number = _REVISION.match(revision)
        if number is None:
            raise invalid_field("revision", "is not a revision")
        event = await self._operations.parked_event(stream, int(number[1]))
        if event is None:
            raise Problem(404, "not-found", f"stream {stream!r} has no revision {revision}")
        return json_reply(event)

    async def _causality(self, call: Call) -> Reply:
        given = known_parameters(call.query_string, "id", "scan")
        asked = given.get("id", "").strip()
        if not 0 < len(asked) <= MAX_ASKED:
            raise invalid_field("id", f"must be a text of 1 to {MAX_ASKED} characters")
        scan = given.get("scan", str(SCAN))
        if not _SCAN.match(scan) or int(scan) > MAX_SCAN:
            raise invalid_field("scan", f"must be a number from 1 to {MAX_SCAN}")
        # The text may also be the `Idempotency-Key` of a command.
        readings = list(dict.fromkeys([asked, *ids_of(asked)]))
        found = await self._operations.causality(readings, int(scan))
        if found is None:
            detail = f"none of it is in the last {scan} records of the log"
            raise Problem(404, "not-found", detail)
        return json_reply(found)

    async def _replay(self, call: Call) -> Reply:
        wanted = await read_body(call, Replay)
        return json_reply({"replayed": await self._operations.replay(wanted.view, wanted.key)})

    async def _discard(self, call: Call) -> Reply:
        wanted = await read_body(call, Discard)
        return json_reply({"discarded": await self._operations.discard(wanted.view, wanted.key)})

    async def _forgetting(self, call: Call) -> Reply:
        return json_reply(await self._operations.forgetting())

    async def _forget(self, call: Call) -> Reply:
        wanted = await read_body(call, Forget)
        return json_reply(await self._operations.forget(wanted.subjects), 202)

    async def _delete(self, call: Call) -> Reply:
        wanted = await read_body(call, Delete)
        kept = await self._operations.delete(wanted.stream, tombstone=wanted.tombstone)
        return json_reply({"stream": wanted.stream, "tombstone": wanted.tombstone, "kept_in": kept})


async def if_known(asked: Awaitable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return an empty list if it cannot be answered: the rest of the status is still useful."""
    try:
        return await asked
    except RayfoldError:
        return []
