"""Errors of the v2 protocol: a ``google.rpc.Status`` in a binary trailer.

Its code and message must equal the call's status and text, or Python's client raises a plain
``ValueError``. Trailers above 8 KiB are refused by clients at random, so texts are one line and
lists of violations are cut.
"""

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from kurrentdbclient.protos.kurrent.rpc import errors_pb2 as rpc_errors_pb2
from kurrentdbclient.protos.v2.streams import errors_pb2

from eventstore.embedded.protocol.constants import MAX_APPEND_SIZE, MAX_RECORD_SIZE
from eventstore.embedded.protocol.errors import RpcError, shown
from eventstore.embedded.storage.operations import Violation

_DETAILS_BYTES = 5_000
"""Serialized violations beyond this are left out; the first ones tell what to re-read."""


def _rich(
    status: StatusCode, message: str, reason: str, detail: Message | None, domain: str = "streams"
) -> RpcError:
    rich = status_pb2.Status(code=status.value[0], message=message)
    details = [error_details_pb2.ErrorInfo(reason=reason, domain=domain)]
    packed = any_pb2.Any()
    packed.Pack(details[0])
    rich.details.append(packed)
    if detail is not None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        rich.details.append(packed)
    return RpcError(status, message, (("grpc-status-details-bin", rich.SerializeToString()),))


def consistency_violation(violations: list[Violation]) -> RpcError:
    """Say that AppendRecords: some streams are not in the demanded state; nothing was written."""
    detail = errors_pb2.AppendConsistencyViolationErrorDetails()
    size = 0
    for violation in violations:
        entry = errors_pb2.ConsistencyViolation(check_index=violation.index)
        entry.stream_state.stream = shown(violation.stream)
        entry.stream_state.expected_state = violation.expected
        entry.stream_state.actual_state = violation.actual
        size += entry.ByteSize()
        if size > _DETAILS_BYTES:
            break
        detail.violations.append(entry)
    return _rich(
        StatusCode.FAILED_PRECONDITION,
        f"Append failed: {len(violations)} consistency check(s) not satisfied.",
        "APPEND_CONSISTENCY_VIOLATION",
        detail,
    )


def revision_conflict(stream: str, expected: int, actual: int) -> RpcError:
    """Say that AppendSession: a stream is at another revision."""
    return _rich(
        StatusCode.FAILED_PRECONDITION,
        f"Append failed due to a revision conflict on stream '{shown(stream)}'. "
        f"Expected revision: {expected}. Actual revision: {actual}.",
        "STREAM_REVISION_CONFLICT",
        errors_pb2.StreamRevisionConflictErrorDetails(
            stream=shown(stream), expected_revision=expected, actual_revision=actual
        ),
    )


def stream_tombstoned(stream: str) -> RpcError:
    """Say that AppendSession: the stream is deleted for good."""
    return _rich(
        StatusCode.FAILED_PRECONDITION,
        f"Stream '{shown(stream)}' has been tombstoned.",
        "STREAM_TOMBSTONED",
        errors_pb2.StreamTombstonedErrorDetails(stream=shown(stream)),
    )


def record_too_large(stream: str, record_id: str, size: int) -> RpcError:
    """Say that one record exceeds the limit."""
    return _rich(
        StatusCode.INVALID_ARGUMENT,
        f"The size of record {record_id} ({size} bytes) exceeds the maximum allowed size of "
        f"{MAX_RECORD_SIZE} bytes.",
        "APPEND_RECORD_SIZE_EXCEEDED",
        errors_pb2.AppendRecordSizeExceededErrorDetails(
            stream=shown(stream), record_id=record_id, size=size, max_size=MAX_RECORD_SIZE
        ),
    )


def transaction_too_large(size: int) -> RpcError:
    """Say that all records together exceed the limit."""
    return _rich(
        StatusCode.ABORTED,
        f"The size of the transaction ({size} bytes) exceeds the maximum allowed size of "
        f"{MAX_APPEND_SIZE} bytes.",
        "APPEND_TRANSACTION_SIZE_EXCEEDED",
        errors_pb2.AppendTransactionSizeExceededErrorDetails(
            size=min(size, 2**31 - 1), max_size=MAX_APPEND_SIZE
        ),
    )


def stream_twice(stream: str) -> RpcError:
    """Say that AppendSession takes each stream once."""
    return _rich(
        StatusCode.ABORTED,
        f"Stream '{shown(stream)}' is already part of this append session.",
        "STREAM_ALREADY_IN_APPEND_SESSION",
        errors_pb2.StreamAlreadyInAppendSessionErrorDetails(stream=shown(stream)),
    )


def no_requests() -> RpcError:
    """Say that an append session must append something."""
    return _rich(
        StatusCode.FAILED_PRECONDITION,
        "The append session received no requests.",
        "APPEND_SESSION_NO_REQUESTS",
        None,
    )


def bad_request(field: str, description: str) -> RpcError:
    """Say that a field has no valid value."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    return _rich(
        StatusCode.INVALID_ARGUMENT,
        f"{field}: {description}",
        "BAD_REQUEST",
        error_details_pb2.BadRequest(field_violations=[violation]),
        domain="server",
    )


def not_leader_node(host: str, port: int, node_id: str) -> RpcError:
    """Say that appends go to the leader, and where that is."""
    detail = rpc_errors_pb2.NotLeaderNodeErrorDetails()
    detail.current_leader.host = host
    detail.current_leader.port = port
    detail.current_leader.node_id = node_id
    return _rich(
        StatusCode.FAILED_PRECONDITION,
        "The server is not the leader node and cannot handle the request. "
        f"Please retry your request against the leader node directly at {host}:{port}",
        "NOT_LEADER_NODE",
        detail,
        domain="server",
    )
