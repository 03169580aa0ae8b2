"""Where groups get their events from: streams that lose them, starts that nothing has had."""

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import InternalError
from kurrentdbclient.protos.v1 import persistent_pb2, persistent_pb2_grpc

from tests.eventstore.making import event, events, take, until

ANY = StreamState.ANY


@pytest.mark.parametrize("metadata", [{"$tb": 10}, {"$maxAge": 1}], ids=["truncated", "expired"])
def test_a_group_is_level_though_all_its_events_are_gone(
    client: KurrentDBClient, name: str, metadata: dict[str, int]
) -> None:
    """It used to look for them for ever, with a whole processor."""
    client.append_to_stream(name, current_version=ANY, events=events(10))
    client.set_stream_metadata(name, metadata=metadata)
    until(lambda: client.get_stream(name) == ())
    client.create_subscription_to_stream("g", name, from_end=False)
    with client.read_subscription_to_stream("g", name) as subscription:
        until(lambda: client.get_subscription_info("g", name).status == "Live")
        client.append_to_stream(name, current_version=9, events=events(2))
        assert [e.stream_position for e in take(subscription, 2)] == [10, 11]
    client.delete_subscription("g", name)


def test_a_start_in_all_beyond_the_log_is_refused(client: KurrentDBClient, name: str) -> None:
    last = client.append_to_stream(name, current_version=ANY, events=[event()])
    with pytest.raises(InternalError, match="beyond the log"):
        client.create_subscription_to_all(name, commit_position=last + 1_000_000)
    client.create_subscription_to_all(name, commit_position=last)
    with pytest.raises(InternalError, match="beyond the log"):
        client.update_subscription_to_all(name, commit_position=last + 1_000_000)
    assert client.get_subscription_info(name).start_from == f"C:{last}/P:{last}"
    client.delete_subscription(name)


def test_extra_statistics_have_a_highest_and_no_zeros(
    groups: persistent_pb2_grpc.PersistentSubscriptionsStub,
    client: KurrentDBClient,
    name: str,
) -> None:
    options = persistent_pb2.CreateReq.Options(
        group_name="g",
        settings={"extra_statistics": True, "read_batch_size": 1, "history_buffer_size": 2},
    )
    options.stream.stream_identifier.stream_name = name.encode()
    options.stream.start.SetInParent()
    groups.Create(persistent_pb2.CreateReq(options=options))
    client.append_to_stream(name, current_version=ANY, events=events(3))
    asked = persistent_pb2.GetInfoReq()
    asked.options.stream_identifier.stream_name = name.encode()
    asked.options.group_name = "g"
    with client.read_subscription_to_stream("g", name) as subscription:
        for received in take(subscription, 3):
            subscription.ack(received)

        def told() -> dict[str, int]:
            (connection,) = groups.GetInfo(asked).subscription_info.connections
            return {one.key: one.value for one in connection.observed_measurements}

        measured = until(told)
    assert min(measured.values()) > 0
    assert measured["Highest"] >= measured["99.9%"] >= measured["Median"] >= measured["Fastest"]
    client.delete_subscription("g", name)
