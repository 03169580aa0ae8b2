"""Reads a whole log to copy it: records with their ids, of all streams but the server's own.

Rayfold otherwise reads records without ids, and writes only JSON, with texts as metadata. The
records of other clients may have any content, and are copied unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import grpc
import msgspec
from kurrentdbclient import NewEvent
from kurrentdbclient.exceptions import KurrentDBClientError
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.deletions import CUT
from eventstore.kurrentdb.connection import refused
from eventstore.kurrentdb.log import APPEND_TIMEOUT, EventLog
from eventstore.kurrentdb.threaded_reader import WINDOW
from eventstore.port import Conflict, InvalidAppend, JointAppend
from eventstore.records import ADDED_BY_SERVERS, NewRecord
from rayfold.foreign_json import UNREADABLE

OF_USERS = "^[^$]"
"""Matches the names of streams other than the server's."""

WITH_SETTINGS = r"^(\$\$)?[^$]"
"""Matches these streams and those with their settings."""

_METADATA = msgspec.json.Decoder(dict[str, Any])
_TEXTS = msgspec.json.Decoder(dict[str, str])
_in_order = msgspec.json.Encoder(order="sorted").encode


class WholeRecord(NamedTuple):
    """A record with everything that a client can set, and its place."""

    stream: str
    revision: int
    event_type: str
    data: bytes
    metadata: bytes
    id: str
    is_json: bool
    position: int

    @property
    def content(self) -> bytes:
        """All of the record except its position, in a form that is the same for every server."""
        try:
            found = _METADATA.decode(self.metadata) if self.metadata else {}
        except UNREADABLE:
            metadata = self.metadata
        else:
            told = {name: value for name, value in found.items() if name not in ADDED_BY_SERVERS}
            metadata = _in_order(told)
        place = (self.stream, self.revision, self.event_type, self.id, self.is_json)
        return _in_order([*place, len(metadata)]) + metadata + self.data

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.data) + len(self.metadata) + len(self.stream)

    def as_new(self) -> NewRecord | None:
        """Return the record for `append_records`; None if that would change the record."""
        if not self.is_json:
            return None
        try:
            metadata = _TEXTS.decode(self.metadata) if self.metadata else {}
        except UNREADABLE:
            return None
        told = {name: value for name, value in metadata.items() if name not in ADDED_BY_SERVERS}
        return NewRecord(self.event_type, self.data, told, self.id)


class WholeLog(EventLog):
    """An `EventLog` that also reads and appends records whole."""

    async def read_whole(
        self,
        streams: str = OF_USERS,
        *,
        event_types: Sequence[str] = (),
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[WholeRecord, None]:
        """Yield the records of `$all` after a position, of streams whose names match.

        With `event_types`, instead those whose types have these prefixes, of all streams.

        Raises:
            StoreUnavailable: no answer, or the read was interrupted.
        """
        options = streams_pb2.ReadReq.Options()
        if after is not None:
            options.all.position.commit_position = options.all.position.prepare_position = after
        elif backwards:
            options.all.end.SetInParent()
        else:
            options.all.start.SetInParent()
        if backwards:
            options.read_direction = streams_pb2.ReadReq.Options.Backwards
        if event_types:
            options.filter.event_type.prefix.extend(event_types)
        else:
            options.filter.stream_identifier.regex = streams
        options.filter.max = WINDOW
        options.count = 2**63 - 1 if limit is None else limit
        options.uuid_option.string.SetInParent()
        await self.connect()
        client = await self._connected()
        try:
            service = client.connection.streams
            call = service._stub.Read(
                streams_pb2.ReadReq(options=options),
                metadata=service._metadata(client._call_metadata, requires_leader=True),
                credentials=client._call_credentials,
            )
            try:
                async for response in call:
                    if response.WhichOneof("content") != "event":
                        continue
                    record = _whole(response.event.event)
                    if backwards or after is None or record.position > after:
                        yield record
            finally:
                call.cancel()
        except (KurrentDBClientError, grpc.RpcError, OSError, ValueError) as error:
            raise refused(self._uri, error) from error

    async def last_position(self) -> int:
        """Return the position of the last record of a user's stream, or of its settings.

        Raises:
            StoreUnavailable: no answer.
        """
        last = 0
        async for record in self.read_whole(WITH_SETTINGS, backwards=True, limit=1):
            last = record.position
        return last

    async def append_whole(self, records: Sequence[WholeRecord]) -> Conflict | InvalidAppend | None:
        """Append records of any streams, in this order, each at its revision.

        They are appended atomically if the server and the records allow it. Records that an
        earlier, unanswered call has appended are no conflict. After a conflict, some may be
        appended.

        Raises:
            StoreUnavailable: no answer; some may be appended.
        """
        if await self.is_atomic():
            for alike, group in groupby(records, key=lambda each: each.as_new() is not None):
                some = [*group]
                failed = await (self._jointly(some) if alike else self._one_by_one(some))
                if failed is not None:
                    return failed
            return None
        return await self._one_by_one(records)

    async def _jointly(self, records: list[WholeRecord]) -> Conflict | InvalidAppend | None:
        expected: dict[str, int | None] = {}
        new = []
        for each in records:
            expected.setdefault(each.stream, each.revision - 1 if each.revision else None)
            if (record := each.as_new()) is not None:
                new.append((each.stream, record))
        [answer] = await self.append([JointAppend(expected, new)])
        if isinstance(answer, InvalidAppend):
            # A type has characters that `append_records` refuses, but older calls accept.
            return await self._one_by_one(records)
        return answer if isinstance(answer, Conflict) else None

    async def _one_by_one(self, records: Sequence[WholeRecord]) -> Conflict | InvalidAppend | None:
        for run in _runs(records):
            if (failed := await self._append_run(run)) is not None:
                return failed
        return None

    async def _append_run(self, run: list[WholeRecord]) -> Conflict | InvalidAppend | None:
        stream, revision = run[0].stream, run[0].revision
        events = [
            NewEvent(
                type=each.event_type,
                data=each.data,
                metadata=each.metadata,
                content_type="application/json" if each.is_json else "application/octet-stream",
                id=UUID(each.id),
            )
            for each in run
        ]
        answer = await self._append_events(stream, revision - 1 if revision else None, events)
        if isinstance(answer, Conflict):
            return answer._replace(streams=(stream,))
        return answer if isinstance(answer, InvalidAppend) else None

    async def truncate(self, stream: str, first: int, *, cut: bool = False) -> None:
        """Truncate a stream before revision `first`: earlier events can no longer be read.

        With `cut`, `is_cut` returns True for it; else it is like a stream deleted and begun again.

        Raises:
            StoreUnavailable: no answer; the setting may not be stored.
        """
        await self._asked(
            lambda client: client.set_stream_metadata(
                stream,
                metadata={"$tb": first} | ({CUT: first} if cut else {}),
                timeout=APPEND_TIMEOUT,
            )
        )


def _runs(records: Sequence[WholeRecord]) -> Iterator[list[WholeRecord]]:
    """Yield each run of consecutive records of one stream."""
    for _, run in groupby(records, key=lambda each: each.stream):
        yield [*run]


def _whole(event: Any) -> WholeRecord:
    fields = event.metadata
    return WholeRecord(
        event.stream_identifier.stream_name.decode(),
        event.stream_revision,
        fields["type"],
        event.data,
        event.custom_metadata,
        event.id.string,
        fields["content-type"] == "application/json",
        event.commit_position,
    )
