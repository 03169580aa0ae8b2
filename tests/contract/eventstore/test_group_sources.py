"""The sources of groups: streams that lose events, and starts at positions without events."""

import queue

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import InternalError
from kurrentdbclient.protos.v1 import persistent_pb2, persistent_pb2_grpc

from tests.contract.eventstore.making import event, events, take, until

ANY = StreamState.ANY
BYTES = "application/octet-stream"


@pytest.mark.parametrize("metadata", [{"$tb": 10}, {"$maxAge": 1}], ids=["truncated", "expired"])
def test_a_group_whose_events_were_all_deleted_has_caught_up(
    client: KurrentDBClient, name: str, metadata: dict[str, int]
) -> None:
    """It used to search for them for ever, and use a whole core."""
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


def test_extra_statistics_are_positive_and_include_the_highest_value(
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


def test_what_a_filter_leaves_out_moves_the_checkpoint(client: KurrentDBClient, name: str) -> None:
    """Otherwise a group that seldom matches would read the whole log after each restart."""
    client.create_subscription_to_all(
        name,
        from_end=True,
        filter_include=(name + "-none",),
        filter_by_stream_name=True,
        min_checkpoint_count=1,
        checkpoint_after=0.1,
    )
    with client.read_subscription_to_all(name):
        last = client.append_to_stream(name, current_version=ANY, events=events(20))
        until(
            lambda: (
                client.get_subscription_info(name).last_checkpointed_event_position
                == f"C:{last}/P:{last}"
            )
        )
    client.delete_subscription(name)


def test_links_have_their_own_position_and_a_broken_link_has_no_event(
    client: KurrentDBClient, groups: persistent_pb2_grpc.PersistentSubscriptionsStub, name: str
) -> None:
    client.append_to_stream(f"{name}-target", current_version=ANY, events=event())
    links = [
        NewEvent(type="$>", data=f"0@{name}-{target}".encode(), content_type=BYTES)
        for target in ("gone", "target")
    ]
    client.append_to_stream(name, current_version=ANY, events=[*links, event()])
    client.create_subscription_to_stream("g", name, resolve_links=True)
    requests = queue.SimpleQueue[persistent_pb2.ReadReq | None]()
    first = persistent_pb2.ReadReq()
    first.options.stream_identifier.stream_name = name.encode()
    first.options.group_name = "g"
    first.options.buffer_size = 10
    first.options.uuid_option.string.SetInParent()
    requests.put(first)
    call = groups.Read(iter(requests.get, None))
    next(call)
    got = [next(call).event, next(call).event, next(call).event]
    assert [(one.HasField("event"), one.HasField("link")) for one in got] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    assert got[0].commit_position == got[0].link.commit_position
    position = got[1].commit_position
    for record in (got[1].event, got[1].link):
        assert (record.commit_position, record.prepare_position) == (position, position)
    assert got[1].event.stream_identifier.stream_name.decode() == f"{name}-target"
    handled = [got[0].link.id, got[1].link.id, got[2].event.id]
    requests.put(persistent_pb2.ReadReq(ack={"ids": handled}))
    until(lambda: not client.get_subscription_info("g", name).outstanding_messages_count)
    requests.put(None)
    call.cancel()
    client.delete_subscription("g", name)
