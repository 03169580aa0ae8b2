"""What Python's client doesn't look at: trailers, other id forms, batch errors, compatibility."""

import queue
import uuid

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.protos.v1 import (
    gossip_pb2,
    gossip_pb2_grpc,
    persistent_pb2,
    persistent_pb2_grpc,
    shared_pb2,
    streams_pb2,
    streams_pb2_grpc,
)

from tests.contract.eventstore.making import event, events, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY
Read = streams_pb2.ReadReq
Batch = streams_pb2.BatchAppendReq


@pytest.fixture
def streams(channel: grpc.Channel) -> streams_pb2_grpc.StreamsStub:
    return streams_pb2_grpc.StreamsStub(channel)


def identifier(name: str) -> shared_pb2.StreamIdentifier:
    return shared_pb2.StreamIdentifier(stream_name=name.encode())


def read_request(name: str, **options: object) -> Read:
    fields: dict[str, object] = {
        "stream": Read.Options.StreamOptions(
            stream_identifier=identifier(name), start=shared_pb2.Empty()
        ),
        "count": 100,
        "no_filter": shared_pb2.Empty(),
        "uuid_option": Read.Options.UUIDOption(string=shared_pb2.Empty()),
    }
    return Read(options=Read.Options(**(fields | options)))


def trailers(error: grpc.RpcError) -> dict[str, str]:
    return dict(error.trailing_metadata())


def test_a_deleted_stream_is_told_in_trailers(
    client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
) -> None:
    name += "-straße"
    client.tombstone_stream(name, current_version=ANY)
    with pytest.raises(grpc.RpcError) as refused:
        list(streams.Read(read_request(name)))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == f"Event stream '{name}' is deleted."
    told = trailers(refused.value)
    assert told["exception"] == "stream-deleted"
    assert told["stream-name"].isascii()
    assert "grpc-status-details-bin" not in told


def test_a_wrong_revision_of_a_delete_is_told_in_trailers(
    client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(2))
    request = streams_pb2.DeleteReq(
        options=streams_pb2.DeleteReq.Options(stream_identifier=identifier(name), revision=7)
    )
    with pytest.raises(grpc.RpcError) as refused:
        streams.Delete(request)
    told = trailers(refused.value)
    assert (told["exception"], told["stream-name"]) == ("wrong-expected-version", name)
    assert (told["expected-version"], told["actual-version"]) == ("7", "1")


@pytest.mark.parametrize("deleted_at", [None, 1])
def test_a_subscription_to_a_missing_stream_has_caught_up_at_no_revision(
    client: KurrentDBClient,
    streams: streams_pb2_grpc.StreamsStub,
    name: str,
    deleted_at: int | None,
) -> None:
    if deleted_at is not None:
        client.append_to_stream(name, current_version=ANY, events=events(deleted_at + 1))
        client.delete_stream(name, current_version=deleted_at)
    request = read_request(name)
    request.options.subscription.SetInParent()
    responses = streams.Read(request, timeout=10)
    assert next(responses).HasField("confirmation")
    level = next(responses)
    assert level.HasField("caught_up")
    assert not level.caught_up.HasField("stream_revision")
    responses.cancel()


def test_ids_come_in_the_form_asked_for(
    client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
) -> None:
    new = events(1)
    client.append_to_stream(name, current_version=ANY, events=new)
    option = Read.Options.UUIDOption(structured=shared_pb2.Empty())
    (answer,) = streams.Read(read_request(name, uuid_option=option))
    halves = answer.event.event.id.structured
    number = (halves.most_significant_bits & 2**64 - 1) << 64
    assert new[0].id.int == number | halves.least_significant_bits & 2**64 - 1
    assert answer.event.commit_position == answer.event.event.commit_position


def structured(value: uuid.UUID) -> shared_pb2.UUID:
    def signed(half: int) -> int:
        return half - 2**64 if half >= 2**63 else half

    most, least = divmod(value.int, 2**64)
    halves = {"most_significant_bits": signed(most), "least_significant_bits": signed(least)}
    return shared_pb2.UUID(structured=halves)


HIGH_BITS = uuid.UUID("ffffffff-ffff-4fff-bfff-fffffffffff0")


def test_an_append_with_ids_in_one_form_is_a_retry_of_the_same_ids_in_another(
    client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
) -> None:
    key = uuid.uuid4()
    for correlation in (structured(HIGH_BITS), shared_pb2.UUID(string=str(key))):
        for event_id in (structured(HIGH_BITS), shared_pb2.UUID(string=str(HIGH_BITS))):
            request = chunk(name, 1, key)
            request.correlation_id.CopyFrom(correlation)
            request.proposed_messages[0].id.CopyFrom(event_id)
            (answer,) = streams.BatchAppend(iter([request]))
            assert answer.correlation_id == correlation
            assert answer.success.current_revision == 0
    assert [e.id for e in client.get_stream(name)] == [HIGH_BITS]


def test_a_group_speaks_the_form_of_ids_its_consumer_asked_for(
    client: KurrentDBClient, groups: persistent_pb2_grpc.PersistentSubscriptionsStub, name: str
) -> None:
    ids = [HIGH_BITS, uuid.uuid4()]
    new = [event(id=one) for one in ids]
    client.append_to_stream(name, current_version=ANY, events=new)
    client.create_subscription_to_stream("g", name)
    requests = queue.SimpleQueue[persistent_pb2.ReadReq | None]()
    first = persistent_pb2.ReadReq()
    first.options.stream_identifier.CopyFrom(identifier(name))
    first.options.group_name = "g"
    first.options.buffer_size = 10
    first.options.uuid_option.structured.SetInParent()
    requests.put(first)
    call = groups.Read(iter(requests.get, None))
    assert next(call).subscription_confirmation.subscription_id == f"{name}::g"
    assert [next(call).event.event.id for _ in ids] == [structured(one) for one in ids]
    requests.put(persistent_pb2.ReadReq(ack={"ids": [structured(ids[0])]}))
    park = persistent_pb2.ReadReq.Nack(ids=[structured(ids[1])], action="Park")
    requests.put(persistent_pb2.ReadReq(nack=park))
    until(lambda: client.get_subscription_info("g", name).parked_message_count == 1)
    assert client.get_subscription_info("g", name).outstanding_messages_count == 0
    requests.put(None)
    call.cancel()
    client.delete_subscription("g", name)


def test_clients_that_ask_get_the_stream_position(
    client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    control = Read.Options.ControlOption(compatibility=1)
    answers = list(streams.Read(read_request(name, control_option=control)))
    assert [a.WhichOneof("content") for a in answers] == ["event"] * 3 + ["last_stream_position"]
    assert answers[-1].last_stream_position == 2


INVALID = {
    "no uuid option": {"uuid_option": None},
    "a filter on a stream": {"filter": Read.Options.FilterOptions()},
    "a subscription backwards": {
        "subscription": Read.Options.SubscriptionOptions(),
        "read_direction": 1,
    },
    "no name": {"stream": Read.Options.StreamOptions(start=shared_pb2.Empty())},
    "the metadata of nothing": {
        "stream": Read.Options.StreamOptions(
            stream_identifier=identifier("$$"), start=shared_pb2.Empty()
        )
    },
    "no UTF-8": {
        "stream": Read.Options.StreamOptions(
            stream_identifier={"stream_name": b"\xff"}, start=shared_pb2.Empty()
        )
    },
    "a bad regex": {
        "all": Read.Options.AllOptions(start=shared_pb2.Empty()),
        "filter": {"event_type": {"regex": "("}, "max": 1, "checkpointIntervalMultiplier": 1},
    },
    "a regex that never ends": {
        "all": Read.Options.AllOptions(start=shared_pb2.Empty()),
        "filter": {"event_type": {"regex": "^(a+)+$"}, "max": 1},
    },
    "an empty filter": {"all": Read.Options.AllOptions(start=shared_pb2.Empty()), "filter": {}},
    "checkpoints never": {
        "all": Read.Options.AllOptions(start=shared_pb2.Empty()),
        "subscription": Read.Options.SubscriptionOptions(),
        "filter": {"event_type": {"prefix": ["a"]}, "max": 1},
    },
    "a position of the future": {
        "all": Read.Options.AllOptions(position={"commit_position": 2**60}),
        "subscription": Read.Options.SubscriptionOptions(),
    },
}


@pytest.mark.parametrize("options", INVALID.values(), ids=INVALID.keys())
def test_invalid_reads(streams: streams_pb2_grpc.StreamsStub, options: dict[str, object]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(streams.Read(read_request("s", **options)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def chunk(
    name: str | None, count: int, key: uuid.UUID, final: bool = True, **more: object
) -> Batch:
    request = Batch(is_final=final)
    request.correlation_id.string = str(key)
    if name is not None:
        options = Batch.Options(stream_identifier=identifier(name), **more)
        if not more:
            options.any.SetInParent()
        request.options.CopyFrom(options)
    for _ in range(count):
        message = request.proposed_messages.add()
        message.id.string = str(uuid.uuid4())
        message.metadata["type"] = "Happened"
        message.metadata["content-type"] = "application/json"
    return request


class TestBatchAppend:
    def test_chunks_of_several_appends_interleave(
        self, client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
    ) -> None:
        a, b = uuid.uuid4(), uuid.uuid4()
        requests = [
            chunk(name, 0, a, final=False),
            chunk(name + "b", 1, b, final=False),
            chunk(None, 2, a, final=False),
            chunk(None, 2, b),
            chunk(None, 1, a),
        ]
        answers = {r.correlation_id.string: r for r in streams.BatchAppend(iter(requests))}
        assert answers[str(a)].success.current_revision == 2
        assert answers[str(b)].success.current_revision == 2
        assert answers[str(b)].stream_identifier.stream_name == (name + "b").encode()

    def test_appends_run_in_the_order_of_their_last_chunks(
        self, streams: streams_pb2_grpc.StreamsStub, name: str
    ) -> None:
        requests = [chunk(name, 1, uuid.uuid4(), no_stream=empty())]
        requests += [chunk(name, 1, uuid.uuid4(), stream_position=n) for n in range(49)]
        answers = list(streams.BatchAppend(iter(requests)))
        assert {r.WhichOneof("result") for r in answers} == {"success"}
        assert sorted(r.success.current_revision for r in answers) == list(range(50))

    def test_one_failure_does_not_end_the_call(
        self, client: KurrentDBClient, streams: streams_pb2_grpc.StreamsStub, name: str
    ) -> None:
        client.tombstone_stream(name + "-gone", current_version=ANY)
        late = chunk(name, 1, uuid.uuid4())
        late.options.deadline.seconds = -1
        nameless = chunk(name, 1, uuid.uuid4())
        del nameless.proposed_messages[0].metadata["type"]
        cases = {
            "WrongExpectedVersion": chunk(name, 1, uuid.uuid4(), stream_position=5),
            "StreamDeleted": chunk(name + "-gone", 1, uuid.uuid4()),
            "Timeout": late,
            "BadRequest": nameless,
            "fine": chunk(name, 1, uuid.uuid4()),
        }
        ignored = chunk(None, 1, uuid.uuid4())
        answers = {
            r.correlation_id.string: r
            for r in streams.BatchAppend(iter([*cases.values(), ignored]))
        }
        assert len(answers) == len(cases)
        for label, request in cases.items():
            answer = answers[request.correlation_id.string]
            if label == "fine":
                assert answer.success.current_revision == 0
            else:
                assert answer.error.message == label
                assert answer.error.details.type_url.endswith("event_store.client." + label)


def empty() -> object:
    from google.protobuf import empty_pb2

    return empty_pb2.Empty()


def test_old_clients_create_groups_with_deprecated_fields(channel: grpc.Channel, name: str) -> None:
    groups = persistent_pb2_grpc.PersistentSubscriptionsStub(channel)
    options = persistent_pb2.CreateReq.Options(
        stream_identifier=identifier(name),
        group_name="old",
        settings={"revision": 4, "read_batch_size": 1, "history_buffer_size": 2},
    )
    groups.Create(persistent_pb2.CreateReq(options=options))
    request = persistent_pb2.GetInfoReq(
        options={"stream_identifier": identifier(name), "group_name": "old"}
    )
    assert groups.GetInfo(request).subscription_info.start_from == "4"
    groups.Delete(
        persistent_pb2.DeleteReq(
            options={"stream_identifier": identifier(name), "group_name": "old"}
        )
    )


def test_updates_of_missing_groups_are_refused(channel: grpc.Channel, name: str) -> None:
    groups = persistent_pb2_grpc.PersistentSubscriptionsStub(channel)
    for source, stream in (
        ({"stream": {"stream_identifier": identifier(name), "start": {}}}, name),
        ({"all": {"start": {}}}, "$all"),
    ):
        request = persistent_pb2.UpdateReq(options={"group_name": "none", "settings": {}, **source})
        with pytest.raises(grpc.RpcError) as refused:
            groups.Update(request)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        told = trailers(refused.value)
        assert told["exception"] == "persistent-subscription-does-not-exist"
        assert (told["stream-name"], told["group-name"]) == (stream, "none")


def test_gossip_names_one_leader_that_can_be_reached(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    told = gossip_pb2_grpc.GossipStub(channel).Read(shared_pb2.Empty())
    (member,) = told.members
    assert member.state == gossip_pb2.MemberInfo.Leader
    assert f"{member.http_end_point.address}:{member.http_end_point.port}" == server.target
    with KurrentDBClient(server.uri.replace("kdb://", "kdb+discover://")) as client:
        client.get_commit_position()


def test_server_features_list_what_is_served(channel: grpc.Channel) -> None:
    call = channel.unary_unary(
        "/event_store.client.server_features.ServerFeatures/GetSupportedMethods"
    )
    told = call(b"")
    assert b"26.1.0" in told
    assert b"kurrentdb.protocol.v2.streams.streamsservice" in told
    assert b"appendrecords" in told


def test_a_scavenge_is_over_at_once_so_none_can_be_stopped(channel: grpc.Channel) -> None:
    operations = "/event_store.client.operations.Operations/"
    assert channel.unary_unary(operations + "StartScavenge")(b"")
    stop = channel.unary_unary(operations + "StopScavenge")
    with pytest.raises(grpc.RpcError) as refused:
        stop(b"\x0a\x04\x0a\x02id")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    told = trailers(refused.value)
    assert (told["exception"], told["scavenge-id"]) == ("scavenge-not-found", "id")


def test_unknown_methods_are_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/event_store.client.projections.Projections/Create")(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
