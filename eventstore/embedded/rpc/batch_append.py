"""``Streams.BatchAppend``: many appends in flight on one long-lived call.

The options open a correlation id, chunks add to it, and its final chunk starts the append, in the
order in which final chunks arrive. Answers are sent as commits finish. The failure of one id never
ends the call.
"""

import asyncio
import time
from dataclasses import dataclass, field

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpc import StatusCode
from kurrentdbclient.protos.v1 import shared_pb2, status_pb2, streams_pb2

from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.constants import (
    ANY,
    MAX_APPEND_SIZE,
    NO_STREAM,
    STREAM_EXISTS,
)
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.rpc.requests import expected_revision, proposed_event
from eventstore.embedded.storage.check import Decision, Verdict
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.names import decode_stream_name
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.store import WRITE_TIMEOUT, Store

Request = streams_pb2.BatchAppendReq
Response = streams_pb2.BatchAppendResp

_OPEN_IDS = 10_000
_OPEN_BYTES = 4 * MAX_APPEND_SIZE
"""The most bytes of unfinished appends in one call, as they are held in memory."""


@dataclass(slots=True)
class _Open:
    stream: str
    expected: int
    deadline: float
    events: list[Proposed] = field(default_factory=list)
    size: int = 0


class BatchAppendHandler:
    """Serves calls; the state of a call lives in ``_Batch``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, call: Call) -> None:
        """Serve one call until the caller half-closes and every answer is out."""
        batch = _Batch(self._store, call)
        try:
            while (raw := await call.read()) is not None:
                await batch.take(parse(Request, raw))
            await batch.drain()
        finally:
            batch.abandon()


class _Batch:
    def __init__(self, store: Store, call: Call) -> None:
        self._store = store
        self._call = call
        self._open: dict[bytes, _Open] = {}
        self._size = 0
        """Bytes of all open appends."""
        self._running: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()

    async def take(self, request: Request) -> None:
        """Take one chunk."""
        key = request.correlation_id.SerializeToString(deterministic=True)
        try:
            if request.HasField("options"):
                self._start(key, request.options)
            append = self._open.get(key)
            if append is None:
                return  # it was never opened, or has failed already and was answered
            for message in request.proposed_messages:
                event = proposed_event(message)
                append.size += event.size
                self._size += event.size
                append.events.append(event)
            if append.size > MAX_APPEND_SIZE:
                self._close(key)
                await self._send(_too_large(request.correlation_id, append.stream))
                return
            if request.is_final:
                self._close(key)
            elif self._size > _OPEN_BYTES:
                raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "Too much is open on this call.")
        except RpcError as refused:
            self._close(key)
            name = request.options.stream_identifier
            await self._send(_refusal(request.correlation_id, name, refused))
            return
        if request.is_final:
            self._run(request.correlation_id, append)

    def _close(self, key: bytes) -> None:
        if (append := self._open.pop(key, None)) is not None:
            self._size -= append.size

    def _start(self, key: bytes, options: Request.Options) -> None:
        self._close(key)  # options for an open id begin it anew
        if len(self._open) >= _OPEN_IDS:
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "Too many appends are open on this call.")
        stream = decode_stream_name(options.stream_identifier.stream_name)
        kind = options.WhichOneof("expected_stream_position")
        expected = expected_revision(kind, options.stream_position)
        self._open[key] = _Open(stream, expected, time.monotonic() + _patience(options))

    def _run(self, correlation_id: shared_pb2.UUID, append: _Open) -> None:
        """Queue for the writer now, so that final chunks keep their order; answer later."""
        future: asyncio.Future[object] | None = None
        left = append.deadline - time.monotonic()
        if left > 0:
            try:
                operation = Append(append.stream, append.expected, append.events)
                future = self._store.submit(operation, append.size)
            except RpcError:
                future = None
        task = asyncio.create_task(self._answer(correlation_id, append, future, left))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(
        self,
        correlation_id: shared_pb2.UUID,
        append: _Open,
        future: "asyncio.Future[object] | None",
        left: float,
    ) -> None:
        answer = Response(correlation_id=correlation_id)
        answer.stream_identifier.stream_name = append.stream.encode()
        if future is not None:
            await asyncio.wait((future,), timeout=left)
        if future is None or not future.done():
            _fail(answer, StatusCode.DEADLINE_EXCEEDED, "Timeout", shared_pb2.Timeout())
        elif future.exception() is not None:
            _fail(answer, StatusCode.UNKNOWN, "Unknown", shared_pb2.Unknown())
        else:
            verdict = future.result()
            assert isinstance(verdict, Verdict)
            self._fill(answer, append, verdict)
        await self._send(answer)

    def _fill(self, answer: Response, append: _Open, verdict: Verdict) -> None:
        if verdict.decision is Decision.DELETED:
            detail = shared_pb2.StreamDeleted()
            detail.stream_identifier.stream_name = append.stream.encode()
            _fail(answer, StatusCode.NOT_FOUND, "StreamDeleted", detail)
        elif verdict.decision is Decision.WRONG:
            wrong = _wrong(append.expected, verdict.revision)
            _fail(answer, StatusCode.ALREADY_EXISTS, "WrongExpectedVersion", wrong)
        else:
            if verdict.revision == NO_STREAM:
                answer.success.no_stream.SetInParent()
            else:
                answer.success.current_revision = verdict.revision
            position = verdict.position or self._store.log.recent.last_position
            answer.success.position.commit_position = position
            answer.success.position.prepare_position = position

    async def _send(self, answer: Response) -> None:
        async with self._sending:
            await self._call.write(answer.SerializeToString())

    async def drain(self) -> None:
        """Wait until every id is answered."""
        while self._running:
            await asyncio.gather(*self._running)

    def abandon(self) -> None:
        """Drop a caller that has disconnected: queued appends commit, their answers are dropped."""
        for task in self._running:
            task.cancel()


def _patience(options: Request.Options) -> float:
    """Return seconds until the append may no longer wait; clients send centuries for "no limit"."""
    kind = options.WhichOneof("deadline_option")
    if kind == "deadline":
        left = options.deadline.seconds + options.deadline.nanos / 1e9
    elif kind == "deadline_21_10_0":
        stamp = options.deadline_21_10_0
        left = stamp.seconds + stamp.nanos / 1e9 - time.time()
    else:
        left = WRITE_TIMEOUT
    return min(left, WRITE_TIMEOUT)


def _fail(answer: Response, code: StatusCode, message: str, detail: Message) -> None:
    """Put an error into the response. The one ``Any`` tells clients its kind, not the code."""
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.Pack(detail)
    answer.error.CopyFrom(status)


def _wrong(expected: int, actual: int) -> shared_pb2.WrongExpectedVersion:
    wrong = shared_pb2.WrongExpectedVersion()
    nothing = empty_pb2.Empty()
    if actual == NO_STREAM:
        wrong.current_no_stream.CopyFrom(nothing)
    else:
        wrong.current_stream_revision = actual
    if expected == ANY:
        wrong.expected_any.CopyFrom(nothing)
    elif expected == STREAM_EXISTS:
        wrong.expected_stream_exists.CopyFrom(nothing)
    elif expected == NO_STREAM:
        wrong.expected_no_stream.CopyFrom(nothing)
    else:
        wrong.expected_stream_position = expected
    return wrong


def _too_large(correlation_id: shared_pb2.UUID, stream: str) -> Response:
    answer = Response(correlation_id=correlation_id)
    answer.stream_identifier.stream_name = stream.encode()
    detail = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=MAX_APPEND_SIZE)
    _fail(answer, StatusCode.INVALID_ARGUMENT, "MaximumAppendSizeExceeded", detail)
    return answer


def _refusal(
    correlation_id: shared_pb2.UUID, stream: shared_pb2.StreamIdentifier, refused: RpcError
) -> Response:
    answer = Response(correlation_id=correlation_id, stream_identifier=stream)
    detail = shared_pb2.BadRequest(message=refused.details)
    _fail(answer, StatusCode.INVALID_ARGUMENT, "BadRequest", detail)
    return answer
