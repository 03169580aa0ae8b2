"""`append_records` with directly built messages, bypassing the client's own records.

The client makes a dataclass of each record and JSON of its metadata, then parses that and
wraps every value: 36 µs for an event, of which the message itself takes seven. So the message
is built here with the client's protobuf types, and sent by the client's stub, with its
retries, reconnects and errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import uuid4

import grpc
from kurrentdbclient import NewEvent, StreamState
from kurrentdbclient.asyncio_client import autoreconnect, retrygrpc
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.exceptions import KurrentDBClientError
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2

from eventstore.kurrentdb.record_client import RecordClient
from eventstore.port import ANY, JointAppend, StreamAppend
from eventstore.records import NewRecord

_NO_STREAM = -1
"""The expected state for a nonexistent stream, in the protocol."""


class AppendClient(RecordClient):
    """The client, with a method that takes an append as a message."""

    @retrygrpc
    @autoreconnect
    async def append_request(
        self, request: v2.AppendRecordsRequest, timeout: float
    ) -> v2.AppendRecordsResponse:
        """Append; return the last revision of each stream, and the last record's position.

        `timeout` is in seconds.

        Raises:
            KurrentDBClientError: as `append_records` does.
        """
        service = self.connection.v2streams
        try:
            response: v2.AppendRecordsResponse = await service._stub.AppendRecords(
                request,
                timeout=timeout,
                metadata=service._metadata(self._call_metadata, requires_leader=True),
                credentials=self._call_credentials,
            )
        except grpc.RpcError as error:
            raise handle_rpc_error(error) from error
        return response

    @retrygrpc
    @autoreconnect
    async def append_batch(
        self,
        stream: str,
        expected: int | StreamState,
        events: Sequence[NewEvent],
        timeout: float,
    ) -> tuple[int, int]:
        """Append to one stream of an older server; return its last revision and the position.

        Like `append_to_stream`, which does not return the revision. `timeout` is in seconds.

        Raises:
            KurrentDBClientError: as `append_to_stream` does.
        """
        service = self.connection.streams
        request = service._construct_batch_append_req(
            stream_name=stream,
            current_version=expected,
            events=events,
            timeout=timeout,
            correlation_id=uuid4(),
        )
        call = service._stub.BatchAppend(
            iter([request]),
            timeout=timeout,
            metadata=service._metadata(self._call_metadata, requires_leader=True),
            credentials=self._call_credentials,
        )
        try:
            async for response in call:
                position = service._convert_batch_append_resp(response, stream, expected)
                call.cancel()
                return response.success.current_revision, position
        except grpc.RpcError as error:
            raise handle_rpc_error(error) from error
        raise KurrentDBClientError("the append has no answer")


def append_request(appends: Sequence[StreamAppend | JointAppend]) -> v2.AppendRecordsRequest:
    """Return a request with all records in order, and a check for each expected revision."""
    request = v2.AppendRecordsRequest()
    add_check = request.checks.add
    for append in appends:
        if isinstance(append, JointAppend):
            for stream, expected in append.expected.items():
                state = add_check().stream_state
                state.stream = stream
                state.expected_state = _NO_STREAM if expected is None else expected
            for stream, record in append.records:
                _add_records(request, stream, (record,))
            continue
        stream, expected, records = append
        if expected != ANY:
            state = add_check().stream_state
            state.stream = stream
            state.expected_state = _NO_STREAM if expected is None else expected
        _add_records(request, stream, records)
    return request


def _add_records(
    request: v2.AppendRecordsRequest, stream: str, records: Iterable[NewRecord]
) -> None:
    add_record = request.records.add
    for event_type, data, metadata, record_id in records:
        record = add_record(record_id=record_id, data=data, stream=stream)
        record.schema.format = v2.SCHEMA_FORMAT_JSON
        record.schema.name = event_type
        properties = record.properties
        for name, value in metadata.items():
            properties[name].string_value = value
