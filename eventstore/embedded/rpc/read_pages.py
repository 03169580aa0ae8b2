"""Finite reads: a stream's readable window or ``$all``, forwards or backwards.

Every page is fetched, sent, and forgotten before the next is read, so a slow reader holds neither
rows nor a transaction.
"""

import asyncio
from collections.abc import Iterable

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.call import Call
from eventstore.embedded.protocol.constants import MAX
from eventstore.embedded.protocol.errors import stream_deleted
from eventstore.embedded.rpc.read_request import Edge, ReadRequest
from eventstore.embedded.rpc.response_form import Shape, shape
from eventstore.embedded.storage.log_reader import PAGE_BYTES, LogReader

PAGE = 256


async def send_page(call: Call, rows: list[tuple[int, bytes]], form: Shape | None) -> None:
    """Send responses in the reader's form."""
    if form is None:
        await send_bounded(call, (resp for _, resp in rows))
    else:
        await send_bounded(call, (form(resp) for _, resp in rows))


async def send_bounded(call: Call, messages: Iterable[bytes]) -> None:
    """Send in portions, each when the one before was sent: a slow reader of large events keeps
    only one portion in memory, not a page."""
    portion: list[bytes] = []
    size = 0
    for message in messages:
        portion.append(message)
        size += len(message)
        if size > PAGE_BYTES:
            await call.write_many(portion)
            portion, size = [], 0
    if portion:
        await call.write_many(portion)


def check_readable(log: LogReader, stream: str) -> None:
    """Raise if the stream, or the stream whose metadata this is, has been tombstoned."""
    if log.info(stream).last == MAX:
        raise stream_deleted(stream)
    if stream.startswith("$$") and log.info(stream[2:]).last == MAX:
        raise stream_deleted(stream)


async def read_stream(log: LogReader, request: ReadRequest, call: Call) -> None:
    """Send events of one stream; ``stream_not_found`` if there never were any."""
    stream = request.stream
    assert stream is not None
    assert request.count is not None
    check_readable(log, stream)
    info = log.info(stream)
    if not info.exists:
        missing = streams_pb2.ReadResp()
        missing.stream_not_found.stream_identifier.stream_name = stream.encode()
        await call.write(missing.SerializeToString())
        return
    form = shape(log, resolve_links=request.resolve_links, structured=request.structured)
    first, last = log.window(info)
    if request.backwards:
        await _stream_backwards(log, request, call, info.sid, first, form)
    else:
        await _stream_forwards(log, request, call, info.sid, first, last, form)
    if request.compatibility >= 1:
        await call.write(streams_pb2.ReadResp(last_stream_position=last).SerializeToString())


async def _stream_forwards(
    log: LogReader,
    request: ReadRequest,
    call: Call,
    sid: int,
    first: int,
    last: int,
    form: Shape | None,
) -> None:
    if request.start is Edge.END:
        return
    asked = 0 if request.start is Edge.START else request.start
    assert isinstance(asked, int)
    at = max(asked, first)
    left = request.count or 0
    if request.compatibility >= 1 and at > last and min(at, last + 1) != asked:
        readable = min(max(first, 0), last + 1) if asked < first else last + 1
        await call.write(streams_pb2.ReadResp(first_stream_position=readable).SerializeToString())
    while left > 0 and at <= last:
        rows = log.stream_forwards(sid, at, last, min(left, PAGE))
        if not rows:
            return
        await send_page(call, rows, form)
        left -= len(rows)
        at = rows[-1][0] + 1


async def _stream_backwards(
    log: LogReader, request: ReadRequest, call: Call, sid: int, first: int, form: Shape | None
) -> None:
    if request.start is Edge.END:
        at = MAX
    elif request.start is Edge.START:
        at = 0
    else:
        assert isinstance(request.start, int)
        at = request.start
    left = request.count or 0
    while left > 0 and at >= first:
        rows = log.stream_backwards(sid, at, first, min(left, PAGE))
        if not rows:
            return
        await send_page(call, rows, form)
        left -= len(rows)
        at = rows[-1][0] - 1


async def read_all(log: LogReader, request: ReadRequest, call: Call) -> None:
    """Send ``$all``: forwards includes the given position, backwards excludes it."""
    form = shape(log, resolve_links=request.resolve_links, structured=request.structured)
    left = request.count or 0
    if request.backwards:
        if request.start is Edge.START:
            return
        before = log.recent.last_position + 1
        if isinstance(request.start, int):
            before = min(before, request.start)
        while left > 0 and before > 0:
            rows, before = log.scan_backwards(before, request.match, min(left, PAGE))
            left -= len(rows)
            await _send_or_yield(call, rows, form)
        return
    if request.start is Edge.END:
        return
    after = request.start - 1 if isinstance(request.start, int) else 0
    # Until the present end: on a busy log, a read would otherwise never end.
    end = log.recent.last_position
    while left > 0 and after < end:
        rows, after = log.scan_forwards(after, request.match, min(left, PAGE))
        left -= len(rows)
        await _send_or_yield(call, rows, form)


async def _send_or_yield(call: Call, rows: list[tuple[int, bytes]], form: Shape | None) -> None:
    if rows:
        await send_page(call, rows, form)
    else:
        await asyncio.sleep(0)
