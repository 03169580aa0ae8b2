"""Splits a server's answer to appends that were sent together into one for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import grpc
from kurrentdbclient.exceptions import RecordMaxSizeExceededError, TransactionMaxSizeExceededError
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2

from eventstore.port import (
    ANY,
    Appended,
    AppendResult,
    Conflict,
    InvalidAppend,
    JointAppend,
    JointlyAppended,
    StreamAppend,
)


def distinct(appends: Sequence[StreamAppend | JointAppend], indexes: list[int]) -> list[int]:
    """Return those that may share a call: the server ignores the case of stream names."""
    taken: set[str] = set()
    found = []
    for index in indexes:
        append = appends[index]
        if isinstance(append, StreamAppend):
            name = append.stream.lower()
            if name in taken:
                continue
            taken.add(name)
        else:
            names = {name.lower() for name in append.expected}
            if not taken.isdisjoint(names):
                continue
            taken |= names
        found.append(index)
    return found


def in_order_of_checks(
    appends: Sequence[StreamAppend | JointAppend], indexes: list[int]
) -> list[tuple[int, str]]:
    """Return indexes and streams in the server's order: first those with a check, then the others.

    The latter may be tombstoned.
    """
    named = [(index, stream) for index in indexes for stream in _streams(appends[index])]

    def is_unchecked(each: tuple[int, str]) -> bool:
        append = appends[each[0]]
        return isinstance(append, StreamAppend) and append.expected == ANY

    return sorted(named, key=is_unchecked)


def appended(
    append: StreamAppend | JointAppend, position: int, last: dict[str, int]
) -> AppendResult:
    """Return the result of an append that was written; `last` has revisions by stream."""
    if isinstance(append, StreamAppend):
        return Appended(position, last.get(append.stream))
    written = dict.fromkeys(stream for stream, _ in append.records)
    return JointlyAppended(position, {each: last[each] for each in written})


def revisions_of(response: v2.AppendRecordsResponse) -> dict[str, int]:
    """Return the last revision of every written stream."""
    return {each.stream: each.revision for each in response.revisions}


def never(append: StreamAppend | JointAppend, error: Exception) -> AppendResult:
    """Return the result of an append that the server refused when it was sent alone."""
    if isinstance(error, ValueError) and len(_streams(append)) > 1:
        # So many failed checks that the trailers cannot be parsed: any of them may be one.
        return Conflict(str(error))
    return InvalidAppend(str(error))


def is_invalid(error: Exception) -> bool:
    """Return whether the server will never accept the request, or not all of it in one call."""
    if isinstance(error, ValueError | RecordMaxSizeExceededError | TransactionMaxSizeExceededError):
        # ValueError: so many failed checks that the trailers cannot be parsed; or no UTF-8.
        return True
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and (
        cause.code() is grpc.StatusCode.INVALID_ARGUMENT
        or (cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "message" in str(cause).lower())
    )


def _streams(append: StreamAppend | JointAppend) -> Collection[str]:
    return append.expected.keys() if isinstance(append, JointAppend) else (append.stream,)
