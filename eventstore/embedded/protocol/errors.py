"""The v1 protocol's errors: status, exact text, and the trailers other clients match on.

Python's client matches status and text; Node, .NET and Java the ``exception`` trailer. Texts are
those of KurrentDB's ``RpcExceptions``.
"""

from urllib.parse import quote

from grpc import StatusCode

from eventstore.embedded.protocol.constants import MAX_APPEND_SIZE, MAX_EVENT_SIZE

Trailers = tuple[tuple[str, str | bytes], ...]

_TRAILER_LIMIT = 512
"""Clients refuse large trailers, sometimes from 8 KiB on; names are cut well below that."""


class RpcError(Exception):
    """Ends a call with a status, a text, and trailers. Handlers raise it, the transport sends."""

    def __init__(self, status: StatusCode, details: str, trailers: Trailers = ()) -> None:
        super().__init__(status, details)
        self.status = status
        self.details = details
        self.trailers = trailers


def trailer_value(text: str) -> str:
    """Return a name in ASCII: anything else in a trailer turns the whole error into INTERNAL."""
    safe = quote(text, safe="!#$&'()*+,/:;=?@[]{}|~^<>\" `\\")
    return safe[:_TRAILER_LIMIT]


def _trailers(kind: str, **values: str) -> Trailers:
    pairs = [("exception", kind)]
    pairs += [(key.replace("_", "-"), trailer_value(value)) for key, value in values.items()]
    return tuple(pairs)


def shown(name: str) -> str:
    """Return a name fit for an error text: that is a trailer too, so it is cut as well, by
    bytes, for each byte beyond ASCII takes three there."""
    raw = name.encode()
    if len(raw) <= _TRAILER_LIMIT:
        return name
    return raw[:_TRAILER_LIMIT].decode(errors="ignore") + "…"


def stream_deleted(stream: str) -> RpcError:
    """Say that the stream is tombstoned, or soft-deleted where it was demanded to exist."""
    return RpcError(
        StatusCode.FAILED_PRECONDITION,
        f"Event stream '{shown(stream)}' is deleted.",
        _trailers("stream-deleted", stream_name=stream),
    )


def wrong_expected_version(stream: str, expected: int, actual: int) -> RpcError:
    """Delete and Tombstone found another revision. Both say "Delete", as the real server does."""
    return RpcError(
        StatusCode.FAILED_PRECONDITION,
        f"Delete failed due to WrongExpectedVersion. Stream: {shown(stream)}, "
        f"Expected version: {expected}, Actual version: {actual}",
        _trailers(
            "wrong-expected-version",
            stream_name=stream,
            expected_version=str(expected),
            actual_version=str(actual),
        ),
    )


def index_not_found(index: str) -> RpcError:
    """Say that there is no secondary index of this name."""
    return RpcError(
        StatusCode.NOT_FOUND,
        f"Index '{shown(index)}' not found.",
        _trailers("index-not-found", index_name=index),
    )


def scavenge_not_found(scavenge_id: str) -> RpcError:
    """Say that no scavenge of this id is running."""
    return RpcError(
        StatusCode.NOT_FOUND,
        "Scavenge id was invalid.",
        _trailers("scavenge-not-found", scavenge_id=scavenge_id),
    )


def invalid_argument(details: str) -> RpcError:
    """Say that the request makes no sense to the protocol."""
    return RpcError(StatusCode.INVALID_ARGUMENT, details)


def append_too_large() -> RpcError:
    """Say that the sum of an append's events exceeds the server's limit."""
    return RpcError(
        StatusCode.INVALID_ARGUMENT,
        f"Maximum Append Size of {MAX_APPEND_SIZE} Exceeded.",
        _trailers("maximum-append-size-exceeded", maximum_append_size=str(MAX_APPEND_SIZE)),
    )


def event_too_large(event_id: str, size: int) -> RpcError:
    """Say that one event exceeds the server's limit."""
    return RpcError(
        StatusCode.INVALID_ARGUMENT,
        f"Event with Id: {event_id}, Size: {size} exceeds Maximum Append Event Size of "
        f"{MAX_EVENT_SIZE}.",
        _trailers(
            "maximum-append-event-size-exceeded",
            event_id=event_id,
            proposed_append_event_size=str(size),
            maximum_append_event_size=str(MAX_EVENT_SIZE),
        ),
    )


def metadata_missing(key: str) -> RpcError:
    """Say that a proposed event lacks ``type`` or ``content-type``."""
    return RpcError(
        StatusCode.INVALID_ARGUMENT,
        f"Required Metadata Property '{key}' is missing",
        _trailers(
            "missing-required-metadata-property", required_metadata_properties="type,content-type"
        ),
    )


def handler_failed() -> RpcError:
    """Return the real server's error for an unexpected exception."""
    return RpcError(StatusCode.UNKNOWN, "Exception was thrown by handler.")


def unavailable(details: str) -> RpcError:
    """Say that the server cannot take the request now; clients reconnect and try again."""
    return RpcError(StatusCode.UNAVAILABLE, details)


def not_ready() -> RpcError:
    """Say that the node is neither leader nor follower now: an election is on."""
    return unavailable("Server Is Not Ready")


def not_leader(host: str, port: int) -> RpcError:
    """Say that the call requires the leader, and the leader's address."""
    return RpcError(
        StatusCode.NOT_FOUND,
        "Leader info available",
        _trailers("not-leader", leader_endpoint_host=host, leader_endpoint_port=str(port)),
    )


def timed_out(detail: str) -> RpcError:
    """Say that a write did not finish within the server's patience; its outcome is unknown."""
    return RpcError(StatusCode.ABORTED, f"Operation timed out: {detail}")
