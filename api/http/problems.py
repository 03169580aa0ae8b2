"""Every error a client can meet, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from pydantic import ValidationError

from actors.errors import (
    AggregateDeleted,
    BadScale,
    DecisionFailed,
    InvalidCommand,
    KeyReused,
    NoSuchProcess,
    NoSuchSchedule,
    Overloaded,
    ProcessStuck,
    RevisionMismatch,
    StreamUnreadable,
    TooLate,
    Unavailable,
    WriteSideError,
)
from api.http.reply import GUARDS, Reply
from projections.errors import (
    BadCursor,
    BadQuery,
    NoSuchPublication,
    NoSuchStore,
    PastCut,
    PostgresUnavailable,
    ProjectionError,
    QueryFailed,
    ReadStoreUnavailable,
    ReplicaUnavailable,
    UnknownTarget,
)
from rayfold import Forbidden, NotFound, RayfoldError, Rejected
from rayfold.derived_routes import HISTORY, LIVE
from rayfold.errors import MiddlewareFailed
from rayfold.runtime.controller_rpc import ControllerUnavailable

log = logging.getLogger(__name__)

_MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error. `kind` is stable; the problem's `type` is made of it."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(kind, detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}
        self.members = members
        self.said = ""
        """The full detail, if it is for operators only."""

    def reply(self) -> Reply:
        """Return the problem as it goes out."""
        body = msgspec.json.encode(
            {
                "type": f"/problems/{self.kind}",
                "title": _title(self.kind),
                "status": self.status,
                "detail": self.detail,
                **self.members,
            }
        )
        fields = [
            *GUARDS,
            (b"content-type", _MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        fields += [
            (name.lower().encode(), value.encode("latin-1", "replace"))
            for name, value in self.headers.items()
        ]
        return Reply(self.status, fields, body)

    def response(self) -> Response[bytes]:
        """Return the same, for Litestar's exception handlers."""
        status, fields, body = self.reply()
        headers = {name.decode(): value.decode("latin-1") for name, value in fields}
        return Response(body, status_code=status, headers=headers, media_type=_MEDIA_TYPE)


def malformed(detail: str) -> Problem:
    """Return 400: what was sent cannot even be read."""
    return Problem(400, "malformed", detail)


MOST_ERRORS = 100
"""That an answer tells: a body of a megabyte may have so many that telling all takes eight."""


def invalid(error: ValidationError, detail: str) -> Problem:
    """Return 422 with the offending fields, at most `MOST_ERRORS` of them."""
    if error.error_count() > MOST_ERRORS:
        detail += f", the first {MOST_ERRORS} of {error.error_count()}"
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return Problem(
        422,
        "invalid-fields",
        detail,
        errors=[
            {
                "field": ".".join(str(part) for part in each["loc"]),
                "message": each["msg"],
                "type": each["type"],
            }
            for each in found[:MOST_ERRORS]
        ],
    )


def invalid_field(field: str, message: str) -> Problem:
    """Return 422 for one field, found without pydantic."""
    errors = [{"field": field, "message": message, "type": "value_error"}]
    return Problem(422, "invalid-fields", f"{field}: {message}", errors=errors)


def unavailable(kind: str, detail: str, retry_after: int = 1) -> Problem:
    """Return 503: come back in so many seconds."""
    return Problem(503, kind, detail, headers={"Retry-After": str(retry_after)})


def _down(kind: str, said: str, retry_after: int = 1) -> Problem:
    """Return 503 for a part that is down, in a plain sentence.

    The text after a colon is a driver's, and may name hosts: it is only in `Problem.said`.
    """
    plain = said.partition(": ")[0]
    problem = unavailable(kind, plain if " " in plain else _SOME_PART, retry_after)
    problem.said = said
    return problem


_SOME_PART = "the event store, or another part that this needs, does not answer"


def problem_of(error: RayfoldError) -> Problem:
    """Return the problem that a client gets for one of our errors."""
    for kind, tell in _TELL.items():
        if isinstance(error, kind):
            return tell(error)
    problem = unavailable("part-down", _SOME_PART)
    problem.said = str(error)
    return problem


_TELL: dict[type[RayfoldError], Callable[[Any], Problem]] = {
    Rejected: lambda e: Problem(409, e.rule, e.detail, code=e.rule),
    NotFound: lambda e: Problem(404, e.rule, e.detail, code=e.rule),
    Forbidden: lambda e: Problem(403, e.rule, e.detail, code=e.rule),
    MiddlewareFailed: lambda e: Problem(500, "middleware-failed", str(e)),
    RevisionMismatch: lambda e: Problem(
        412, "revision-mismatch", str(e), expected=e.expected, actual=e.actual
    ),
    AggregateDeleted: lambda e: Problem(410, "aggregate-deleted", str(e), stream=e.stream),
    KeyReused: lambda e: Problem(422, "idempotency-key-reused", str(e)),
    InvalidCommand: lambda e: _invalid_command(e),
    Overloaded: lambda e: unavailable("overloaded", str(e), e.retry_after),
    Unavailable: lambda e: _down("write-side-unavailable", e.detail, e.retry_after),
    StreamUnreadable: lambda e: unavailable("stream-unreadable", e.detail, 60),
    DecisionFailed: lambda e: _domain_failed(e),
    NoSuchProcess: lambda e: Problem(404, "not-found", str(e)),
    ProcessStuck: lambda e: Problem(409, "process-stuck", str(e)),
    NoSuchSchedule: lambda e: Problem(404, "not-scheduled", str(e)),
    TooLate: lambda e: Problem(409, "too-late", str(e)),
    BadScale: lambda e: Problem(422, "bad-scale", str(e)),
    WriteSideError: lambda e: _down("write-side-unavailable", str(e)),
    BadQuery: lambda e: Problem(422, "bad-query", str(e)),
    QueryFailed: lambda e: _query_failed(e),
    PastCut: lambda e: Problem(404, "past-cut", str(e)),
    BadCursor: lambda e: Problem(400, "bad-cursor", str(e)),
    NoSuchStore: lambda e: Problem(400, "no-such-store", str(e)),
    NoSuchPublication: lambda e: Problem(404, "not-found", str(e)),
    UnknownTarget: lambda e: Problem(422, "unknown-target", str(e)),
    PostgresUnavailable: lambda e: _down("postgres-unavailable", str(e)),
    ReadStoreUnavailable: lambda e: _down("store-unavailable", str(e)),
    ReplicaUnavailable: lambda e: _down("replica-unavailable", str(e)),
    ControllerUnavailable: lambda e: _down("controller-unavailable", e.detail, e.retry_after),
    ProjectionError: lambda e: _down("read-side-unavailable", str(e)),
}


def _invalid_command(error: InvalidCommand) -> Problem:
    if not error.field:
        return Problem(422, "invalid-command", error.detail)
    errors = [{"field": error.field, "message": error.detail, "type": "value_error"}]
    return Problem(422, "invalid-fields", error.detail, errors=errors)


def _domain_failed(error: DecisionFailed) -> Problem:
    log.error("the domain's code failed", extra={"error": error.detail})
    return Problem(500, "domain-failed", "the domain's code failed on this command")


def _query_failed(error: QueryFailed) -> Problem:
    log.error("the domain's query failed", exc_info=error.__cause__, extra={"error": str(error)})
    return Problem(500, "domain-failed", "the domain's query failed")


def _title(kind: str) -> str:
    return kind.replace("-", " ").capitalize()


def on_problem(_: Request[Any, Any, Any], error: Problem) -> Response[bytes]:
    """Answer Litestar when a `Problem` was raised."""
    return error.response()


def on_ours(_: Request[Any, Any, Any], error: RayfoldError) -> Response[bytes]:
    """Answer Litestar when one of our errors was raised."""
    return problem_of(error).response()


def allowed(methods: Iterable[str]) -> str:
    """Return the value of the `Allow` header, which is the same in every answer."""
    return ", ".join(sorted(methods))


_WHY_NOT = {
    HISTORY: "a row has a history, and `as_of`, only if it folds the events of one aggregate, by"
    " the aggregate's id, and its route does not have `history=False`",
    LIVE: "only a single row can be followed, by its key, and only if its view is kept in memory",
}


def _no_such_path(path: str) -> str:
    """Return what to say of a path that no route has."""
    why = [f": {reason}" for ending, reason in _WHY_NOT.items() if path.endswith(ending)]
    return f"there is nothing at this path{''.join(why)}; /docs lists what there is"


def on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer Litestar when the router raised."""
    status = error.status_code
    try:
        kind = HTTPStatus(status).phrase.lower().replace(" ", "-")
    except ValueError:
        kind = "error"
    headers = {}
    for name, value in (error.headers or {}).items():
        if name.lower() == "allow":
            headers["Allow"] = allowed(value.split(", "))
    detail = error.detail if status < 500 else "see the log"
    if status == 404:
        detail = _no_such_path(request.scope["path"])
    return Problem(status, kind, detail, headers=headers).response()


UNFORESEEN = Problem(500, "internal-error", "this is an error of the server, and it is in the log")


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer when Litestar itself broke: what breaks in a handler is answered there."""
    where = {"method": request.method, "path": request.scope["path"]}
    log.error("a request failed", exc_info=error, extra=where)
    return UNFORESEEN.response()


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    RayfoldError: on_ours,
    HTTPException: on_http,
    Exception: on_unforeseen,
}
