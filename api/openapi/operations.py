"""What operations have in common: parameters in headers, answers, problems."""

from __future__ import annotations

from collections.abc import Mapping

from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Parameter,
    Reference,
    RequestBody,
)

from api.http.headers import DEFAULT_TIMEOUT, MAX_KEY, MAX_TIMEOUT
from api.openapi.schemas import Given, ref
from rayfold.tenants import NAME as TENANT_NAME

TEXT = Given(given={"type": "string"})
JSON = "application/json"

_TOKEN = Given(given={"type": "string", "pattern": "^[0-9]{1,18}$"})

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    Given(
        # Without surrounding spaces and quotes, which are stripped.
        given={"type": "string", "pattern": r'[^\s"]', "minLength": 1, "maxLength": MAX_KEY}
    ),
    "The command id; a repeat gives the first receipt",
)
_REVISION = {"type": "string", "pattern": '^"[0-9]{1,18}(-[0-9a-f]{18})?"$'}
IF_MATCH = Parameter(
    "If-Match",
    "header",
    Given(given={"anyOf": [_REVISION, {"type": "string", "enum": ["*"]}]}),
    'The revision that the aggregate must have: `"<revision>"`, or the `ETag` of its row',
)
TIMEOUT = Parameter(
    "Rayfold-Timeout",
    "header",
    Given(given={"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?$", "examples": ["2.5"]}),
    "Seconds that the command may take, with queues and attempts: at most "
    f"{MAX_TIMEOUT:g}, by default {DEFAULT_TIMEOUT:g}",
)
NOT_BEFORE = Parameter(
    "Rayfold-Not-Before",
    "header",
    # Not `date-time`: client generators make a type of it that cannot be a header.
    Given(given={"type": "string", "format": "instant", "examples": ["2030-01-31T12:00:00Z"]}),
    "An instant of RFC 3339: keep the command until then; the answer is its status",
)
PREFER = Parameter(
    "Prefer", "header", TEXT, "`wait=SECONDS`: answer when the views show the effect"
)
TRACEPARENT = Parameter("traceparent", "header", TEXT, "W3C trace context, kept with the events")
CONSISTENCY_TOKEN = Parameter(
    "Consistency-Token",
    "header",
    _TOKEN,
    "The token of a receipt or an answer: answer only from a store that has reached it",
)
TENANT = Parameter(
    "Rayfold-Tenant",
    "header",
    Given(given={"type": "string", "pattern": f"^{TENANT_NAME}$"}),
    "The tenant, if the caller does not belong to one",
)
STORE = Parameter("Rayfold-Store", "header", ref("Store"), "The store to answer from")
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "header",
    TEXT,
    "The entity tag that the client has; 304 if nothing has changed",
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID", "header", _TOKEN, "The position after which the stream goes on"
)

OF_COMMANDS = [
    IDEMPOTENCY_KEY,
    IF_MATCH,
    TIMEOUT,
    NOT_BEFORE,
    PREFER,
    CONSISTENCY_TOKEN,
    TRACEPARENT,
]
OF_QUERIES = [
    CONSISTENCY_TOKEN,
    Parameter(
        "Prefer",
        "header",
        TEXT,
        "`wait=SECONDS`: wait so long for a store that has reached the token",
    ),
    STORE,
    IF_NONE_MATCH,
]

RECEIPT_HEADERS = {
    "Location": "Where the aggregate can be read",
    "ETag": "The revision",
    "Consistency-Token": "For queries that must see the effect of the command",
}
TOKEN_HEADER = {"Consistency-Token": "The position that the store has reached"}

_PROBLEMS = {
    400: "Malformed",
    401: "There is no valid bearer token",
    403: "The caller may not do this, or the request comes from another site",
    404: "Unknown",
    408: "The request took too long to arrive",
    409: "A rule rejected the command; its code is in `code`",
    410: "The stream was deleted for good",
    412: "The aggregate is not at the revision in If-Match",
    413: "The body is too large",
    415: "The body is compressed, or a web page sent something other than JSON",
    422: "Invalid fields",
    429: "The caller sends more requests than it may",
    431: "There are too many headers, or they are too large",
    500: "The domain's code failed",
    503: "The stack is overloaded, or a part is down; a command may be sent again with the same"
    " Idempotency-Key",
}
_ANYWHERE = (400, 401, 403, 408, 429, 431, 503)


def path_parameter(name: str, schema: Given = TEXT, description: str | None = None) -> Parameter:
    """Return a parameter in the path."""
    return Parameter(name, "path", schema, description, required=True)


def query_parameter(
    name: str, schema: Given, description: str | None = None, *, required: bool = False
) -> Parameter:
    """Return a parameter in the query string."""
    return Parameter(name, "query", schema, description, required=required)


def answer(description: str, schema: str) -> OpenAPIResponse:
    """Return an answer in JSON, by the name of its schema."""
    return content(description, {JSON: schema})


def content(
    description: str, schemas: Mapping[str, str | Given], headers: Mapping[str, str] | None = None
) -> OpenAPIResponse:
    """Return an answer with a schema, or the name of one, for each media type."""
    described: dict[str, OpenAPIHeader | Reference] = {
        name: OpenAPIHeader(TEXT, description=text) for name, text in (headers or {}).items()
    }
    return OpenAPIResponse(
        description,
        described or None,
        {
            media_type: OpenAPIMediaType(ref(schema) if isinstance(schema, str) else schema)
            for media_type, schema in schemas.items()
        },
    )


def body(schema: str, *, required: bool = True) -> RequestBody:
    """Return a request's body in JSON, by the name of its schema."""
    return RequestBody({JSON: OpenAPIMediaType(ref(schema))}, required=required)


def problems(*statuses: int) -> dict[str, OpenAPIResponse]:
    """Return the problem answers: of these statuses, and of those that every operation may have."""
    return {
        str(status): content(_PROBLEMS[status], {"application/problem+json": "Problem"})
        for status in sorted({*statuses, *_ANYWHERE})
    }
