"""``kurrentdb.protocol.v2.streams.StreamsService``: atomic writes to many streams."""

from kurrentdbclient.protos.v2.streams import streams_pb2

from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.constants import (
    ANY,
    MAX_APPEND_SIZE,
    NO_STREAM,
    SOFT_DELETED,
    STREAM_EXISTS,
    TOMBSTONED,
)
from eventstore.embedded.rpc.v2_errors import (
    bad_request,
    consistency_violation,
    no_requests,
    revision_conflict,
    stream_tombstoned,
    stream_twice,
    transaction_too_large,
)
from eventstore.embedded.rpc.v2_records import proposed_record, valid_stream
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import MultiAppend, MultiResult, StreamWrite
from eventstore.embedded.storage.store import Store

_SESSION_STATES = (NO_STREAM, ANY, STREAM_EXISTS)
_CHECK_STATES = (NO_STREAM, STREAM_EXISTS, SOFT_DELETED, TOMBSTONED)


class V2StreamsHandlers:
    """AppendRecords and AppendSession."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append_records(self, raw: bytes, call: Call) -> bytes:
        """Append records of any streams in the order given, with checks on any streams."""
        request = parse(streams_pb2.AppendRecordsRequest, raw)
        if not request.records:
            raise bad_request("records", "must hold at least one record")
        streams, index = _checks(request)
        written: dict[int, None] = {}
        events: list[tuple[int, Proposed]] = []
        total = 0
        for record in request.records:
            name = record.stream
            number = index.get(name)
            if number is None:
                number = index.get(name.lower())
                if number is None:
                    number = len(streams)
                    streams.append(StreamWrite(valid_stream(name), ANY, []))
                    index[name.lower()] = number
                index[name] = number
            event, size = proposed_record(record, name)
            total += size
            streams[number].ids.append(event.id)
            events.append((number, event))
            written[number] = None
        if total > MAX_APPEND_SIZE:
            raise transaction_too_large(total)
        result = await self._store.write(MultiAppend(streams, events), MultiResult, total)
        if result.violations:
            raise consistency_violation(result.violations)
        answer = streams_pb2.AppendRecordsResponse(position=result.position)
        for number in written:
            revision = answer.revisions.add()
            revision.stream = streams[number].stream
            revision.revision = result.revisions[number]
        return answer.SerializeToString()

    async def append_session(self, call: Call) -> None:
        """Append to several streams, one request each, written together at half-close."""
        streams: list[StreamWrite] = []
        events: list[tuple[int, Proposed]] = []
        seen: set[str] = set()
        total = 0
        while (raw := await call.read()) is not None:
            request = parse(streams_pb2.AppendRequest, raw)
            stream = valid_stream(request.stream)
            if stream.lower() in seen:
                raise stream_twice(stream)
            seen.add(stream.lower())
            if not request.records:
                raise bad_request("records", "must hold at least one record")
            write = StreamWrite(stream, _session_expected(request), [])
            for record in request.records:
                event, size = proposed_record(record, stream)
                total += size
                write.ids.append(event.id)
                events.append((len(streams), event))
            streams.append(write)
            if total > MAX_APPEND_SIZE:
                raise transaction_too_large(total)
        if not streams:
            raise no_requests()
        result = await self._store.write(MultiAppend(streams, events), MultiResult, total)
        if result.violations:
            first = result.violations[0]
            if first.actual in (TOMBSTONED, SOFT_DELETED):
                raise stream_tombstoned(first.stream)
            raise revision_conflict(first.stream, first.expected, first.actual)
        answer = streams_pb2.AppendSessionResponse(
            output=[
                streams_pb2.AppendResponse(stream=write.stream, stream_revision=revision)
                for write, revision in zip(streams, result.revisions, strict=True)
            ],
            position=result.position,
        )
        await call.write(answer.SerializeToString())


def _session_expected(request: streams_pb2.AppendRequest) -> int:
    if not request.HasField("expected_revision"):
        return ANY
    expected = request.expected_revision
    if expected < 0 and expected not in _SESSION_STATES:
        raise bad_request("expected_revision", "must be a revision, -1, -2 or -4")
    return expected


def _checks(
    request: streams_pb2.AppendRecordsRequest,
) -> tuple[list[StreamWrite], dict[str, int]]:
    """Return checked streams in order, and their numbers by name in lower case."""
    streams: list[StreamWrite] = []
    index: dict[str, int] = {}
    for check in request.checks:
        if check.WhichOneof("type") != "stream_state":
            raise bad_request("checks", "only stream state checks are known")
        stream = valid_stream(check.stream_state.stream)
        expected = check.stream_state.expected_state
        if expected < 0 and expected not in _CHECK_STATES:
            raise bad_request("checks", "expected_state must be a revision, -1, -4, -5 or -6")
        if stream.lower() in index:
            raise bad_request("checks", f"stream '{stream[:200]}' is checked twice")
        index[stream.lower()] = len(streams)
        streams.append(StreamWrite(stream, expected, []))
    return streams, index
