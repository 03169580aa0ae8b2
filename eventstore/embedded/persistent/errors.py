"""Errors of consumer groups, after KurrentDB's ``RpcExceptions``."""

from grpc import StatusCode

from eventstore.embedded.protocol.errors import RpcError, shown, trailer_value


def _error(
    status: StatusCode, text: str, kind: str, stream: str, group: str, reason: str | None = None
) -> RpcError:
    trailers = [
        ("exception", kind),
        ("stream-name", trailer_value(stream)),
        ("group-name", trailer_value(group)),
    ]
    if reason is not None:
        trailers.append(("reason", trailer_value(reason)))
    return RpcError(status, text, tuple(trailers))


def _named(stream: str, group: str) -> str:
    return f"Subscription group {shown(group)} on stream {shown(stream)}"


def group_failed(stream: str, group: str, reason: str) -> RpcError:
    """Create, Update or ReplayParked was refused."""
    text = f"{_named(stream, group)} failed: '{shown(reason)}'"
    kind = "persistent-subscription-failed"
    return _error(StatusCode.INTERNAL, text, kind, stream, group, reason)


def group_missing(stream: str, group: str) -> RpcError:
    """Say that there is no such group."""
    text = f"{_named(stream, group)} does not exist."
    kind = "persistent-subscription-does-not-exist"
    return _error(StatusCode.NOT_FOUND, text, kind, stream, group)


def group_exists(stream: str, group: str) -> RpcError:
    """Create was refused, because the group exists."""
    text = f"{_named(stream, group)} exists."
    kind = "persistent-subscription-exists"
    return _error(StatusCode.ALREADY_EXISTS, text, kind, stream, group)


def too_many_consumers(stream: str, group: str) -> RpcError:
    """Say that the group's ``max_subscriber_count`` is reached."""
    text = f"Maximum subscriptions reached for subscription group {shown(group)} on stream "
    text += f"{shown(stream)}."
    kind = "maximum-subscribers-reached"
    return _error(StatusCode.FAILED_PRECONDITION, text, kind, stream, group)


def dropped(stream: str, group: str) -> RpcError:
    """Say that the group was updated, deleted or restarted under its consumers."""
    text = f"{_named(stream, group)} was dropped."
    kind = "persistent-subscription-dropped"
    return _error(StatusCode.CANCELLED, text, kind, stream, group)
