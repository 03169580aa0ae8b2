"""Persistent subscriptions through the real client."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    CancelledError,
    InternalError,
    MaximumSubscriptionsReachedError,
    NotFoundError,
)

from tests.contract.eventstore.making import event, events, take, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY


@pytest.fixture
def group(client: KurrentDBClient, name: str) -> Iterator[str]:
    """The name of a group that the test creates on its stream."""
    yield "group"
    for info in client.list_subscriptions():
        if info.event_source == name:
            client.delete_subscription("group", name)


def parked(client: KurrentDBClient, group: str, name: str) -> int:
    return client.get_subscription_info(group, name).parked_message_count


def test_events_are_delivered_in_order_and_acknowledged(
    client: KurrentDBClient, name: str, group: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(5))
    client.create_subscription_to_stream(group, name)
    with client.read_subscription_to_stream(group, name) as subscription:
        for expected in range(5):
            got = next(subscription)
            assert (got.stream_position, got.retry_count) == (expected, 0)
            subscription.ack(got)
        client.append_to_stream(name, current_version=ANY, events=[event()])
        assert next(subscription).stream_position == 5
        assert subscription.subscription_id == f"{name}::{group}"


@pytest.mark.parametrize(
    ("start", "first"), [({}, 0), ({"stream_position": 3}, 3), ({"from_end": True}, 5)]
)
def test_where_a_group_starts(
    client: KurrentDBClient, name: str, group: str, start: dict[str, object], first: int
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(5))
    client.create_subscription_to_stream(group, name, **start)
    client.append_to_stream(name, current_version=ANY, events=[event()])
    with client.read_subscription_to_stream(group, name) as subscription:
        assert next(subscription).stream_position == first


def test_retries_then_parks_then_replays(client: KurrentDBClient, name: str, group: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(2))
    client.create_subscription_to_stream(group, name, max_retry_count=2)
    with client.read_subscription_to_stream(group, name) as subscription:
        counts = Counter[int]()
        while parked(client, group, name) < 2:
            got = next(subscription) if sum(counts.values()) < 6 else None
            if got is None:
                continue
            assert got.retry_count == counts[got.stream_position]
            counts[got.stream_position] += 1
            subscription.nack(got, "retry")
    assert counts == {0: 3, 1: 3}
    entries = client.get_stream(f"$persistentsubscription-{name}::{group}-parked")
    assert sorted(e.data for e in entries) == [b"0@" + name.encode(), b"1@" + name.encode()]
    assert json.loads(entries[0].metadata)["reason"] == "Reached retry count of 2"
    client.replay_parked_events(group, name)
    with client.read_subscription_to_stream(group, name) as subscription:
        for got in take(subscription, 2):
            assert (got.retry_count, got.link is not None) == (0, True)
            subscription.ack(got)
    until(lambda: parked(client, group, name) == 0)
    metadata, _ = client.get_stream_metadata(f"$persistentsubscription-{name}::{group}-parked")
    until(lambda: client.get_stream(f"$persistentsubscription-{name}::{group}-parked") == ())
    assert metadata.get("$tb", 2) <= 2


def test_park_and_skip(client: KurrentDBClient, name: str, group: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    client.create_subscription_to_stream(group, name)
    with client.read_subscription_to_stream(group, name) as subscription:
        for got, action in zip(take(subscription, 3), ("park", "skip", "stop"), strict=True):
            subscription.nack(got, action)
        until(lambda: parked(client, group, name) == 1)
        until(lambda: not client.get_subscription_info(group, name).outstanding_messages_count)


def test_one_name_on_two_streams_is_two_groups(
    client: KurrentDBClient, name: str, group: str
) -> None:
    other = "other-" + name
    for stream in (name, other):
        client.create_subscription_to_stream(group, stream)
        client.append_to_stream(stream, current_version=ANY, events=[event()])
    for stream in (name, other):
        with client.read_subscription_to_stream(group, stream) as subscription:
            assert next(subscription).stream_name == stream
    client.delete_subscription(group, other)
    left = [g.event_source for g in client.list_subscriptions() if g.group_name == group]
    assert name in left
    assert other not in left


def test_a_message_that_times_out_comes_again(
    client: KurrentDBClient, name: str, group: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=[event()])
    client.create_subscription_to_stream(group, name, message_timeout=0.2, max_retry_count=1)
    with client.read_subscription_to_stream(group, name) as subscription:
        assert [e.retry_count for e in take(subscription, 2)] == [0, 1]
        until(lambda: parked(client, group, name) == 1)


def test_a_leaving_consumer_hands_its_messages_on(
    client: KurrentDBClient, name: str, group: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(4))
    client.create_subscription_to_stream(group, name, max_retry_count=0)
    first = client.read_subscription_to_stream(group, name)
    take(first, 4)
    first.stop()
    with client.read_subscription_to_stream(group, name) as second:
        got = take(second, 4)
    assert [(e.stream_position, e.retry_count) for e in got] == [(n, 1) for n in range(4)]
    assert parked(client, group, name) == 0


def test_progress_survives_update_and_restart(
    client: KurrentDBClient, name: str, group: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(10))
    client.create_subscription_to_stream(group, name)
    with client.read_subscription_to_stream(group, name) as subscription:
        for got in take(subscription, 6):
            subscription.ack(got)
        until(lambda: client.get_subscription_info(group, name).outstanding_messages_count == 4)
    client.update_subscription_to_stream(group, name, max_retry_count=3)
    info = client.get_subscription_info(group, name)
    assert (info.max_retry_count, info.last_checkpointed_event_position) == (3, "5")
    with client.read_subscription_to_stream(group, name) as subscription:
        assert [e.stream_position for e in take(subscription, 4)] == [6, 7, 8, 9]


def test_dropped_consumers(client: KurrentDBClient, name: str, group: str) -> None:
    client.create_subscription_to_stream(group, name)
    for change in (
        lambda: client.update_subscription_to_stream(group, name, min_checkpoint_count=5),
        lambda: client.delete_subscription(group, name),
    ):
        subscription = client.read_subscription_to_stream(group, name)
        change()
        with pytest.raises(CancelledError):
            next(subscription)


def test_errors(client: KurrentDBClient, name: str, group: str) -> None:
    for call in (
        lambda: client.get_subscription_info(group, name),
        lambda: client.delete_subscription(group, name),
        lambda: client.update_subscription_to_stream(group, name),
        lambda: client.replay_parked_events(group, name),
        lambda: client.read_subscription_to_stream(group, name),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert client.list_subscriptions_to_stream(name) == []
    with pytest.raises(InternalError, match="ReadBatchSize"):
        client.create_subscription_to_stream(
            group, name, read_batch_size=10, history_buffer_size=10
        )
    with pytest.raises(InternalError, match="Consumer strategy"):
        client.create_subscription_to_stream(group, name, consumer_strategy="Nope")
    with pytest.raises(InternalError):
        client.create_subscription_to_stream(group, "$all")
    client.create_subscription_to_stream(group, name, max_subscriber_count=1)
    with pytest.raises(AlreadyExistsError):
        client.create_subscription_to_stream(group, name)
    first = client.read_subscription_to_stream(group, name)
    with pytest.raises(MaximumSubscriptionsReachedError):
        client.read_subscription_to_stream(group, name)
    first.stop()


def test_settings_come_back(client: KurrentDBClient, name: str, group: str) -> None:
    wanted: dict[str, object] = {
        "resolve_links": True,
        "consumer_strategy": "RoundRobin",
        "message_timeout": 12.5,
        "max_retry_count": 7,
        "min_checkpoint_count": 11,
        "max_checkpoint_count": 222,
        "checkpoint_after": 3.5,
        "max_subscriber_count": 9,
        "live_buffer_size": 321,
        "read_batch_size": 33,
        "history_buffer_size": 444,
        "extra_statistics": True,
    }
    client.create_subscription_to_stream(group, name, stream_position=5, **wanted)
    info = client.get_subscription_info(group, name)
    assert {key: getattr(info, key) for key in wanted} == wanted
    assert (info.start_from, info.event_source, info.group_name) == ("5", name, group)
    assert [g.group_name for g in client.list_subscriptions_to_stream(name)] == [group]


@pytest.mark.parametrize(
    "strategy", ["DispatchToSingle", "RoundRobin", "Pinned", "PinnedByCorrelation"]
)
def test_strategies(client: KurrentDBClient, name: str, strategy: str) -> None:
    group = name
    client.create_subscription_to_all(
        group,
        consumer_strategy=strategy,
        from_end=True,
        filter_include=(name + ".*",),
        filter_by_stream_name=True,
    )
    consumers = [client.read_subscription_to_all(group) for _ in range(2)]
    got: list[list[tuple[str, bytes]]] = [[], []]

    def consume(index: int) -> None:
        for received in consumers[index]:
            got[index].append((received.stream_name, received.metadata))
            consumers[index].ack(received)

    threads = [threading.Thread(target=consume, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for number in range(40):
        metadata = json.dumps({"$correlationId": f"c{number % 8}"}).encode()
        client.append_to_stream(
            f"{name}-{number % 10}", current_version=ANY, events=[event(metadata=metadata)]
        )
    until(lambda: len(got[0]) + len(got[1]) == 40)
    for consumer in consumers:
        consumer.stop()
    for thread in threads:
        thread.join(10)
    client.delete_subscription(group)
    if strategy == "DispatchToSingle":
        assert (len(got[0]), len(got[1])) == (40, 0)
    elif strategy == "RoundRobin":
        assert (len(got[0]), len(got[1])) == (20, 20)
    else:
        column = 0 if strategy == "Pinned" else 1
        keys = [{entry[column] for entry in side} for side in got]
        assert not keys[0] & keys[1]
        assert keys[0]
        assert keys[1]


def test_a_group_on_all_with_a_filter(client: KurrentDBClient, name: str) -> None:
    kind = "T" + name.replace("-", "")
    position = client.append_to_stream(name, current_version=ANY, events=[event(kind)])
    client.create_subscription_to_all(name, filter_include=(kind,), commit_position=position)
    client.append_to_stream(name, current_version=ANY, events=[event(), event(kind)])
    with client.read_subscription_to_all(name) as subscription:
        assert [e.stream_position for e in take(subscription, 2)] == [0, 2]
    info = client.get_subscription_info(name)
    assert info.start_from == f"C:{position}/P:{position}"
    client.delete_subscription(name)


def test_everything_of_a_group_survives_kill(
    start: Callable[..., ServerProcess], name: str
) -> None:
    first = start()
    with KurrentDBClient(first.uri) as client:
        client.append_to_stream(name, current_version=ANY, events=events(30))
        client.create_subscription_to_stream(
            "g", name, min_checkpoint_count=1, max_checkpoint_count=5, message_timeout=60
        )
        subscription = client.read_subscription_to_stream("g", name)
        for got in take(subscription, 20):
            if got.stream_position == 7:
                subscription.nack(got, "park")
            else:
                subscription.ack(got)
        until(lambda: parked(client, "g", name) == 1)
        until(
            lambda: client.get_subscription_info("g", name).last_checkpointed_event_position == "19"
        )
        first.kill()
    with KurrentDBClient(start().uri) as client:
        assert parked(client, "g", name) == 1
        client.replay_parked_events("g", name)
        with client.read_subscription_to_stream("g", name) as subscription:
            got = take(subscription, 11)
        assert sorted(e.stream_position for e in got) == [7, *range(20, 30)]


def test_the_client_is_told_by_name_what_is_missing(client: KurrentDBClient) -> None:
    name = "straße-\n日本"
    with pytest.raises(NotFoundError):
        client.get_subscription_info("grüppe", name)
