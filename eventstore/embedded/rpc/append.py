"""``Streams.Append``: one stream, one atomic append, answered once it is on disk."""

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.constants import (
    ANY,
    MAX_APPEND_SIZE,
    MAX_V1_MESSAGE,
    NO_STREAM,
    STREAM_EXISTS,
)
from eventstore.embedded.protocol.errors import append_too_large, invalid_argument, stream_deleted
from eventstore.embedded.rpc.requests import expected_revision, proposed_event
from eventstore.embedded.storage.check import Decision, Verdict
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.names import decode_stream_name
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.store import Store

Request = streams_pb2.AppendReq
Response = streams_pb2.AppendResp


class AppendHandler:
    """Take the options, then the events until the caller half-closes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, call: Call) -> None:
        """Serve one call."""
        raw = await call.read()
        first = parse(Request, raw) if raw is not None else Request()
        if first.WhichOneof("content") != "options":
            raise invalid_argument("The first message of an append must hold its options.")
        options = first.options
        stream = decode_stream_name(options.stream_identifier.stream_name)
        expected = expected_revision(
            options.WhichOneof("expected_stream_revision"), options.revision
        )
        events, size = await _events(call)
        verdict = await self._store.write(Append(stream, expected, events), Verdict, size)
        if verdict.decision is Decision.DELETED:
            raise stream_deleted(stream)
        if verdict.decision is Decision.WRONG:
            await call.write(_wrong(expected, verdict.revision))
        else:
            await call.write(_success(self._store, verdict))


async def _events(call: Call) -> tuple[list[Proposed], int]:
    events: list[Proposed] = []
    size = 0
    while (raw := await call.read()) is not None:
        if len(raw) > MAX_V1_MESSAGE + 1024:
            raise invalid_argument("The message is too large.")
        message = parse(Request, raw)
        if message.WhichOneof("content") != "proposed_message":
            raise invalid_argument("An append has one message with options, the first.")
        event = proposed_event(message.proposed_message)
        size += event.size
        if size > MAX_APPEND_SIZE:
            raise append_too_large()
        events.append(event)
    return events, size


def _success(store: Store, verdict: Verdict) -> bytes:
    success = Response.Success()
    if verdict.revision == NO_STREAM:
        success.no_stream.SetInParent()
    else:
        success.current_revision = verdict.revision
    # Zero events have no position, but clients need one: that of the newest event.
    position = verdict.position or store.log.recent.last_position
    success.position.commit_position = position
    success.position.prepare_position = position
    return Response(success=success).SerializeToString()


def _wrong(expected: int, actual: int) -> bytes:
    """Return a normal response with old and new fields: every client generation reads its own."""
    wrong = Response.WrongExpectedVersion()
    if actual == NO_STREAM:
        wrong.current_no_stream.SetInParent()
        wrong.no_stream_20_6_0.SetInParent()
    else:
        wrong.current_revision = actual
        wrong.current_revision_20_6_0 = actual
    if expected == ANY:
        wrong.expected_any.SetInParent()
        wrong.any_20_6_0.SetInParent()
    elif expected == STREAM_EXISTS:
        wrong.expected_stream_exists.SetInParent()
        wrong.stream_exists_20_6_0.SetInParent()
    elif expected == NO_STREAM:
        wrong.expected_no_stream.SetInParent()
        wrong.expected_revision_20_6_0 = 2**64 - 1
    else:
        wrong.expected_revision = expected
        wrong.expected_revision_20_6_0 = expected
    return Response(wrong_expected_version=wrong).SerializeToString()
