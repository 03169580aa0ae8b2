"""The event store over gRPC: a thin adapter over `kurrentdbclient`.

The client's own words (`current_version`, `stream_position`) stay inside this file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing, suppress
from typing import Any, TypeVar
from uuid import UUID

import grpc
from kurrentdbclient import NewEvent, StreamState
from kurrentdbclient.exceptions import (
    BadRequestError,
    ConsistencyChecksFailedError,
    InvalidArgumentError,
    KurrentDBClientError,
    MaximumAppendSizeExceededError,
    NotFoundError,
    ProgrammingError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2
from msgspec.json import encode

from eventstore.errors import StoreRefused, StoreUnavailable, StreamTombstoned
from eventstore.kurrentdb.append_answers import (
    appended,
    distinct,
    in_order_of_checks,
    is_invalid,
    never,
    revisions_of,
)
from eventstore.kurrentdb.append_request import AppendClient, append_request
from eventstore.kurrentdb.connection import (
    for_leader,
    for_readers,
    is_cluster,
    is_passing,
    refused,
)
from eventstore.kurrentdb.handshake import complaint
from eventstore.kurrentdb.letting_go import let_go, let_go_of
from eventstore.kurrentdb.record_client import Records
from eventstore.kurrentdb.stream_reader import LONGEST, LOOK_AGAIN, StreamReader
from eventstore.kurrentdb.threaded_reader import read_batches
from eventstore.one_record import last_record
from eventstore.port import (
    ANY,
    Appended,
    AppendResult,
    Conflict,
    InvalidAppend,
    JointAppend,
    StreamAppend,
)
from eventstore.records import Batch, RawRecord

T = TypeVar("T")

APPEND_TIMEOUT = 10.0
"""Seconds. After a longer silence the append raises `StoreUnavailable`."""

LONGEST_WAIT = 20.0
"""Seconds for all attempts of one request together."""

ELECTION = 8.0
"""Seconds that appends and reads wait for a cluster to elect another leader."""

END_TIMEOUT = 2.0
"""Seconds for the request of the log's end, by which health is reported."""


class EventLog:
    """See `eventstore.port.Log` for the guarantees of each method.

    Connects on first use, in the loop that runs then; reconnects by itself.
    """

    def __init__(self, uri: str, *, atomic: bool | None = None) -> None:
        """`atomic=False` does not use `append_records`, even if the server has it."""
        self._uri = for_leader(uri)
        self._readers_uri = for_readers(uri)
        self._patience = ELECTION if is_cluster(uri) else 0.0
        self._client: AppendClient | None = None
        self._atomic = atomic
        self._stream_reader = StreamReader(self._uri, self._patience)

    async def connect(self) -> None:
        """Connect now.

        Raises:
            StoreRefused: it never will, because of a password, certificate or connection string.
            StoreUnavailable: the store does not answer.
        """
        try:
            await self._asked(lambda client: client.get_commit_position())
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            client = await self._connected()
            if (wrong := await asyncio.to_thread(complaint, client.connection_spec)) is None:
                raise
            raise wrong from error

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        """See `Log.append`."""
        if await self.is_atomic():
            return await self._append_together(appends)
        # Pipelined: every stream's batch is sent before the first is answered.
        return list(await asyncio.gather(*(self._append_one(append) for append in appends)))

    async def is_atomic(self) -> bool:
        """See `Log.is_atomic`."""
        if self._atomic is None:
            self._atomic = await self._has_append_records()
        return self._atomic

    async def _has_append_records(self) -> bool:
        """Return whether the server has `append_records`, by a request that it must find invalid.

        Raises:
            StoreUnavailable: no conclusive answer.
        """
        nothing = v2.AppendRecordsRequest()
        try:
            await self._led(lambda client: client.append_request(nothing, APPEND_TIMEOUT))
        except (KurrentDBClientError, OSError, ValueError) as error:
            code = _code(error)
            if code is grpc.StatusCode.UNIMPLEMENTED:
                return False
            if code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise refused(self._uri, error) from error
        return True

    async def _append_together(
        self, appends: Sequence[StreamAppend | JointAppend]
    ) -> list[AppendResult]:
        """Append all in one transaction of the server, except those whose check fails."""
        answers: list[AppendResult | None] = [None] * len(appends)
        most = len(appends)
        while unanswered := [index for index, answer in enumerate(answers) if answer is None]:
            waiting = distinct(appends, unanswered)[:most]
            try:
                request = append_request([appends[index] for index in waiting])
                response = await self._append_request(request)
            except ConsistencyChecksFailedError as error:
                failed = {failure.check_index for failure in error.failures}
                order = in_order_of_checks(appends, waiting)
                named = [each for place, each in enumerate(order) if place in failed]
                # If the server names none of them, all are conflicts: else this would not end.
                for index, stream in named or order:
                    before = answers[index]
                    streams = before.streams if isinstance(before, Conflict) else ()
                    answers[index] = Conflict("the stream has moved on", (*streams, stream))
            except (KurrentDBClientError, OSError, ValueError) as error:
                if not is_invalid(error):
                    if _code(error) is grpc.StatusCode.UNIMPLEMENTED:
                        self._atomic = None  # the leader may be an older node now: ask it again
                    raise refused(self._uri, error) from error
                # The server does not say which of them: try fewer at a time, down to one.
                if len(waiting) == 1:
                    answers[waiting[0]] = never(appends[waiting[0]], error)
                most = max(len(waiting) // 2, 1)
            else:
                most *= 2
                last = revisions_of(response)
                for index in waiting:
                    answers[index] = appended(appends[index], response.position, last)
        return [answer for answer in answers if answer is not None]

    async def _append_request(self, request: v2.AppendRecordsRequest) -> v2.AppendRecordsResponse:
        """Send the request, if needed to the next leader too: a repeated append is idempotent."""
        return await self._led(lambda client: client.append_request(request, APPEND_TIMEOUT))

    async def _append_one(self, append: StreamAppend | JointAppend) -> AppendResult:
        if isinstance(append, JointAppend):
            return InvalidAppend("the event store has no append_records: KurrentDB 26.1 has it")
        events = [
            NewEvent(
                type=record.event_type,
                data=record.data,
                metadata=encode(record.metadata),
                id=UUID(record.id),
            )
            for record in append.records
        ]
        return await self._append_events(append.stream, append.expected, events)

    async def _append_events(
        self, stream: str, expected: int | None, events: Sequence[NewEvent]
    ) -> AppendResult:
        """Append to one stream with the call that every server has."""
        try:
            last_revision, position = await self._led(
                lambda client: client.append_batch(
                    stream, _expected(expected), events, APPEND_TIMEOUT
                )
            )
        except (WrongCurrentVersionError, NotFoundError, StreamIsDeletedError) as error:
            return Conflict(str(error))
        except (MaximumAppendSizeExceededError, BadRequestError, InvalidArgumentError) as error:
            return InvalidAppend(str(error))
        except (KurrentDBClientError, grpc.RpcError, OSError) as error:
            raise refused(self._uri, error) from error
        return Appended(position, last_revision)

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> bool:
        """See `Log.delete_stream`."""

        if not tombstone and not await self._reads_as_there(stream):
            return False  # a server would delete it once more and report success

        async def delete(client: AppendClient) -> bool:
            ask = client.tombstone_stream if tombstone else client.delete_stream
            try:
                await ask(stream, current_version=StreamState.ANY, timeout=APPEND_TIMEOUT)
            except (NotFoundError, StreamIsDeletedError, WrongCurrentVersionError):
                return False
            return True

        return await self._asked(delete)

    async def _reads_as_there(self, stream: str) -> bool:
        try:
            return await last_record(self, stream) is not None
        except StreamTombstoned:
            return False

    async def keep_latest(self, stream: str, count: int) -> None:
        """See `Log.keep_latest`."""
        await self._asked(
            lambda client: client.set_stream_metadata(
                stream, metadata={"$maxCount": count}, timeout=APPEND_TIMEOUT
            )
        )

    async def read_stream(
        self,
        stream: str,
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_stream`."""
        if backwards and after == 0:
            return
        if limit is not None and limit <= LONGEST:
            short = self._stream_reader
            for record in await short.read(stream, after=after, backwards=backwards, limit=limit):
                yield record
            return
        options: dict[str, Any] = {} if limit is None else {"limit": limit}
        if after is not None:
            options["stream_position"] = after - 1 if backwards else after + 1

        def read(client: AppendClient) -> Awaitable[Records]:
            return client.read_records(stream_name=stream, backwards=backwards, **options)

        try:
            async with aclosing(self._records(read)) as records:
                async for record in records:
                    yield record
        except StreamIsDeletedError as error:
            raise StreamTombstoned(stream) from error

    async def read_all(
        self,
        prefixes: Sequence[str],
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_all`."""
        if backwards:
            async with aclosing(self._read_back(prefixes, after, limit)) as records:
                async for earlier in records:
                    yield earlier
            return
        # A read begins with the event at `commit_position`, which is `after` itself: skip it.
        if limit is None:
            async with aclosing(read_batches(self._uri, prefixes, after, live=False)) as batches:
                async for batch in batches:
                    for record in batch:
                        if isinstance(record, RawRecord) and record.position > (after or 0):
                            yield record
            return
        given = 0

        def read(client: AppendClient) -> Awaitable[Records]:
            which = _filtered(prefixes)
            return client.read_records(commit_position=after, limit=limit + 1, **which)

        async with aclosing(self._records(read)) as records:
            async for record in records:
                if after is not None and record.position <= after:
                    continue
                if given == limit:
                    return
                given += 1
                yield record

    async def _read_back(
        self, prefixes: Sequence[str], before: int | None, limit: int | None
    ) -> AsyncGenerator[RawRecord, None]:
        options: dict[str, Any] = {} if limit is None else {"limit": limit}

        def read(client: AppendClient) -> Awaitable[Records]:
            return client.read_records(
                commit_position=before, backwards=True, **options, **_filtered(prefixes)
            )

        async with aclosing(self._records(read)) as records:
            async for record in records:
                yield record

    async def subscribe(
        self,
        prefixes: Sequence[str],
        after: int | None,
        *,
        gather: float = 0.0,
        event_types: Sequence[str] = (),
    ) -> AsyncGenerator[Batch, None]:
        """See `Log.subscribe`."""
        position, live = after or 0, False
        streams = tuple(prefixes)
        batches = read_batches(
            self._readers_uri, prefixes, after, live=True, gather=gather, event_types=event_types
        )
        async with aclosing(batches):
            async for batch in batches:
                records = []
                for item in batch:
                    position = max(position, item.position)
                    if isinstance(item, RawRecord):
                        # The server filters by only one criterion, and by prefix.
                        if not event_types or (
                            item.event_type in event_types and item.stream.startswith(streams)
                        ):
                            records.append(item)
                    elif item.live is not None:
                        live = item.live
                yield Batch(records, position, live)
        raise StoreUnavailable("the subscription ended")

    async def end_position(self, prefixes: Sequence[str] | None) -> int:
        """See `Log.end_position`."""
        which = {} if prefixes is None else _filtered(prefixes)

        def read(client: AppendClient) -> Awaitable[Records]:
            return client.read_records(backwards=True, limit=1, **which)

        try:
            async with asyncio.timeout(END_TIMEOUT), aclosing(self._records(read)) as records:
                last = await anext(records, None)
        except TimeoutError as error:
            raise StoreUnavailable(f"no answer within {END_TIMEOUT} s") from error
        return last.position if last is not None else 0

    @property
    def receipts_share_position(self) -> bool:
        """See `Log.receipts_share_position`."""
        return self._atomic is not False

    async def close(self) -> None:
        """See `Log.close`."""
        self._stream_reader.close()
        client, self._client = self._client, None
        if client is not None:
            with suppress(KurrentDBClientError, ProgrammingError, grpc.RpcError):
                await let_go(client.close())

    async def _connected(self) -> AppendClient:
        if self._client is None:
            try:
                self._client = AppendClient(self._uri)
            except (OSError, ValueError) as error:  # a missing file, a wrong parameter
                raise refused(self._uri, error) from error
        return self._client

    async def _led(self, ask: Callable[[AppendClient], Awaitable[T]]) -> T:
        """Call the leader; while a cluster has none, wait for the next one.

        Raises:
            TimeoutError, KurrentDBClientError: no answer, or the server's error.
        """
        deadline = time.monotonic() + self._patience
        async with asyncio.timeout(LONGEST_WAIT):
            while True:
                client = await self._connected()
                try:
                    return await ask(client)
                except KurrentDBClientError as error:
                    if not is_passing(error) or time.monotonic() > deadline:
                        raise
                await asyncio.sleep(LOOK_AGAIN)
                await _look_for_leader(client)

    async def _asked(self, ask: Callable[[AppendClient], Awaitable[T]]) -> T:
        try:
            return await self._led(ask)
        except (KurrentDBClientError, grpc.RpcError, OSError, ValueError) as error:
            raise refused(self._uri, error) from error

    async def _records(
        self, read: Callable[[AppendClient], Awaitable[Any]]
    ) -> AsyncGenerator[RawRecord, None]:
        client = await self._connected()
        try:
            async with let_go_of(await read(client)) as records:
                async for record in records:
                    yield record
        except NotFoundError:
            return
        except StreamIsDeletedError:
            raise  # for the caller to handle
        except (KurrentDBClientError, grpc.RpcError, OSError, ValueError) as error:
            if is_passing(error):
                # The client does not look for the leader by itself while it reads.
                await _look_for_leader(client)
            raise refused(self._uri, error) from error


async def _look_for_leader(client: AppendClient) -> None:
    with suppress(KurrentDBClientError, grpc.RpcError, OSError, AssertionError):
        await client.reconnect(connection_id=client.connection_id)


def _expected(revision: int | None) -> Any:
    if revision is None:
        return StreamState.NO_STREAM
    return StreamState.ANY if revision == ANY else revision


def _code(error: BaseException) -> grpc.StatusCode | None:
    cause = error.__cause__
    return cause.code() if isinstance(cause, grpc.RpcError) else None


def _filtered(prefixes: Iterable[str]) -> dict[str, Any]:
    return {
        "filter_include": tuple(prefixes),
        "filter_by_stream_name": True,
        "filter_by_prefix": True,
    }
