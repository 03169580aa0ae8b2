"""The v2 protocol: a case per row of its tables."""

import uuid

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, NewEvents, StreamState
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.events import NewRecord, StreamStateCheck
from kurrentdbclient.exceptions import (
    ConsistencyChecksFailedError,
    KurrentDBClientError,
    MultiAppendToSameStreamError,
    StreamTombstonedError,
    WrongCurrentVersionError,
)
from kurrentdbclient.protos.v2.streams import streams_pb2, streams_pb2_grpc

from tests.contract.eventstore.making import event, events

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS
Check = streams_pb2.ConsistencyCheck


def record(stream: str, **values: object) -> streams_pb2.AppendRecord:
    schema = streams_pb2.SchemaInfo(format="SCHEMA_FORMAT_JSON", name="Happened")
    fields: dict[str, object] = {"record_id": str(uuid.uuid4()), "schema": schema, "data": b"{}"}
    return streams_pb2.AppendRecord(stream=stream, **(fields | values))


def check(stream: str, expected: int) -> Check:
    state = Check.StreamStateCheck(stream=stream, expected_state=expected)
    return Check(stream_state=state)


@pytest.fixture
def stub(channel: grpc.Channel) -> streams_pb2_grpc.StreamsServiceStub:
    return streams_pb2_grpc.StreamsServiceStub(channel)


def prepare(client: KurrentDBClient, name: str, state: str) -> None:
    """Bring a stream into one of the four states; its last revision is 2 where it has one."""
    if state != "missing":
        client.append_to_stream(name, current_version=NO_STREAM, events=events(3))
    if state == "soft-deleted":
        client.delete_stream(name, current_version=ANY)
    if state == "tombstoned":
        client.tombstone_stream(name, current_version=ANY)


TABLE = [  # expected, then the actual state reported (None: passes) if only checked
    (2, {"there": None, "missing": -1, "soft-deleted": None, "tombstoned": -6}),
    (1, {"there": 2, "missing": -1, "soft-deleted": 2, "tombstoned": -6}),
    (-1, {"there": 2, "missing": None, "soft-deleted": None, "tombstoned": None}),
    (-4, {"there": None, "missing": -1, "soft-deleted": -5, "tombstoned": -6}),
    (-5, {"there": 2, "missing": -1, "soft-deleted": None, "tombstoned": -6}),
    (-6, {"there": 2, "missing": -1, "soft-deleted": 2, "tombstoned": None}),
]


@pytest.mark.parametrize("written", [False, True], ids=["checked", "written"])
@pytest.mark.parametrize("state", ["there", "missing", "soft-deleted", "tombstoned"])
@pytest.mark.parametrize(("expected", "outcomes"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_checks(
    client: KurrentDBClient,
    stub: streams_pb2_grpc.StreamsServiceStub,
    name: str,
    expected: int,
    outcomes: dict[str, int | None],
    state: str,
    written: bool,
) -> None:
    prepare(client, name, state)
    actual = outcomes[state]
    if written and state == "tombstoned":
        actual = -6
    target = name if written else name + "-other"
    request = streams_pb2.AppendRecordsRequest(
        records=[record(target)], checks=[check(name, expected)]
    )
    if actual is None:
        answer = stub.AppendRecords(request)
        assert [r.stream for r in answer.revisions] == [target]
        return
    with pytest.raises(grpc.RpcError) as refused:
        stub.AppendRecords(request)
    error = handle_rpc_error(refused.value)
    assert isinstance(error, ConsistencyChecksFailedError)
    (failure,) = error.failures
    assert failure.check_index == 0
    assert failure.stream_state_failure.actual_state == actual


def test_records_are_interleaved_as_given(client: KurrentDBClient, name: str) -> None:
    names = [name + "-a", name + "-b", name + "-a", name + "-b", name + "-a"]
    before = client.get_commit_position()
    result = client.append_records(
        [NewRecord(stream_name=n, type="Happened", data=b"{}") for n in names],
        checks=[StreamStateCheck(name + "-a", NO_STREAM), StreamStateCheck(name + "-b", NO_STREAM)],
    )
    got = [e.stream_name for e in client.read_all(commit_position=before + 1)]
    assert got == names
    assert [(s.stream_name, s.stream_position) for s in result.stream_positions] == [
        (name + "-a", 2),
        (name + "-b", 1),
    ]
    assert result.commit_position == client.get_commit_position()


def test_a_repeated_batch_answers_as_the_first_and_a_mix_is_refused(
    client: KurrentDBClient, name: str
) -> None:
    old = NewRecord(stream_name=name, type="Happened", data=b"{}")
    fresh = NewRecord(stream_name=name + "-b", type="Happened", data=b"{}")
    checks = [StreamStateCheck(name, NO_STREAM)]
    first = client.append_records([old], checks=checks)
    assert client.append_records([old], checks=checks) == first
    with pytest.raises(ConsistencyChecksFailedError):
        client.append_records([old, fresh], checks=checks)
    assert len(client.get_stream(name)) == 1


def test_many_violations_still_arrive(client: KurrentDBClient, name: str) -> None:
    records = [
        NewRecord(stream_name=f"{name}-{number}", type="Happened", data=b"{}")
        for number in range(300)
    ]
    checks = [StreamStateCheck(r.stream_name, 7) for r in records]
    for _ in range(5):
        with pytest.raises(ConsistencyChecksFailedError) as failed:
            client.append_records(records, checks=checks)
        assert len(failed.value.failures) > 20


def test_stored_metadata_names_the_schema(client: KurrentDBClient, name: str) -> None:
    client.append_records(
        [
            NewRecord(
                stream_name=name,
                type="A.b",
                data=b"\0",
                metadata=b'{"k":"v"}',
                content_type="application/octet-stream",
            )
        ]
    )
    (got,) = client.get_stream(name)
    assert (got.type, got.content_type) == ("A.b", "application/octet-stream")
    assert got.metadata == b'{"k":"v","$schema.name":"A.b","$schema.format":"Bytes"}'


BAD = {
    "no records": {"records": []},
    "empty stream": {"records": [record("")]},
    "metadata of all": {"records": [record("$$")]},
    "bad id": {"records": [record("s", record_id="nonsense")]},
    "zero id": {"records": [record("s", record_id=str(uuid.UUID(int=0)))]},
    "no format": {"records": [record("s", schema={"name": "A"})]},
    "unknown format": {"records": [record("s", schema={"name": "A", "format": 9})]},
    "bad type": {"records": [record("s", schema={"name": "A b", "format": 1})]},
    "no type": {"records": [record("s", schema={"format": 1})]},
    "empty key": {"records": [record("s", properties={"": {"string_value": "x"}})]},
    "no kind": {"records": [record("s", properties={"k": {}})]},
    "any in a check": {"records": [record("s")], "checks": [check("s", -2)]},
    "twice checked": {"records": [record("s")], "checks": [check("s", 1), check("S", 1)]},
}


@pytest.mark.parametrize("request_fields", BAD.values(), ids=BAD.keys())
def test_invalid_records(
    stub: streams_pb2_grpc.StreamsServiceStub, request_fields: dict[str, object]
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.AppendRecords(streams_pb2.AppendRecordsRequest(**request_fields))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestSession:
    def test_writes_all_or_nothing(self, client: KurrentDBClient, name: str) -> None:
        a, b = name + "-a", name + "-b"
        position = client.multi_append_to_stream(
            [NewEvents(a, events(2), NO_STREAM), NewEvents(b, events(1), ANY)]
        )
        assert client.get_commit_position() == position
        with pytest.raises(WrongCurrentVersionError) as wrong:
            client.multi_append_to_stream([NewEvents(b, [event()], 0), NewEvents(a, [event()], 7)])
        assert (wrong.value.stream_name, wrong.value.actual_version) == (a, 1)
        assert len(client.get_stream(b)) == 1

    def test_a_stream_once(self, client: KurrentDBClient, name: str) -> None:
        twice = [NewEvents(name, [event()], ANY), NewEvents(name.upper(), [event()], ANY)]
        with pytest.raises(MultiAppendToSameStreamError):
            client.multi_append_to_stream(twice)

    def test_a_tombstoned_stream(self, client: KurrentDBClient, name: str) -> None:
        client.tombstone_stream(name, current_version=ANY)
        with pytest.raises(StreamTombstonedError):
            client.multi_append_to_stream([NewEvents(name, [event()], ANY)])

    def test_nothing_at_all(self, client: KurrentDBClient) -> None:
        with pytest.raises(KurrentDBClientError, match="no requests"):
            client.multi_append_to_stream([])
