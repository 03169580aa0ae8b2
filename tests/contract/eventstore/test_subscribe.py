"""Catch-up subscriptions, through the sync and the async client."""

import asyncio

import pytest
from kurrentdbclient import (
    AsyncKurrentDBClient,
    CaughtUp,
    Checkpoint,
    KurrentDBClient,
    StreamState,
)
from kurrentdbclient.exceptions import GrpcDeadlineExceededError, StreamIsDeletedError

from tests.contract.eventstore.making import event, events, take, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY


def test_a_stream_from_the_start_then_live(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    with client.subscribe_to_stream(name, include_caught_up=True) as subscription:
        got = take(subscription, 4)
        assert [e.stream_position for e in got[:3]] == [0, 1, 2]
        assert isinstance(got[3], CaughtUp)
        assert got[3].stream_position == 2
        client.append_to_stream(name, current_version=2, events=events(2))
        assert [e.stream_position for e in take(subscription, 2)] == [3, 4]


def test_a_stream_after_a_revision_and_from_the_end(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    with client.subscribe_to_stream(name, stream_position=1) as subscription:
        assert next(subscription).stream_position == 2
    with client.subscribe_to_stream(name, from_end=True) as subscription:
        client.append_to_stream(name, current_version=ANY, events=[event()])
        assert next(subscription).stream_position == 3


def test_a_stream_that_does_not_exist_yet(client: KurrentDBClient, name: str) -> None:
    with client.subscribe_to_stream(name, include_caught_up=True) as subscription:
        assert isinstance(next(subscription), CaughtUp)
        client.append_to_stream(name, current_version=ANY, events=[event()])
        assert next(subscription).stream_position == 0


def test_a_tombstone_ends_a_subscription(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=[event()])
    subscription = client.subscribe_to_stream(name)
    next(subscription)
    client.tombstone_stream(name, current_version=ANY)
    assert next(subscription).type == "$streamDeleted"
    with pytest.raises(StreamIsDeletedError):
        next(subscription)
    with pytest.raises(StreamIsDeletedError):
        next(client.subscribe_to_stream(name))


def test_events_that_expire_under_a_slow_subscription_are_left_out(
    client: KurrentDBClient, name: str
) -> None:
    for _ in range(5):  # more than gRPC's largest window, so that some are still to be read
        large = [event(data=b"x" * 700_000) for _ in range(12)]
        client.append_to_stream(name, current_version=ANY, events=large)
    with client.subscribe_to_stream(name, include_caught_up=True) as subscription:
        got = [next(subscription).stream_position]
        client.set_stream_metadata(name, metadata={"$maxAge": 1})
        until(lambda: client.get_stream(name, limit=1) == ())
        while not isinstance(following := next(subscription), CaughtUp):
            got.append(following.stream_position)
        assert got == list(range(len(got)))
        assert len(got) < 60
        client.append_to_stream(name, current_version=59, events=event())
        assert next(subscription).stream_position == 60


def test_all_after_a_position(client: KurrentDBClient, name: str) -> None:
    first = client.append_to_stream(name, current_version=ANY, events=[event()])
    client.append_to_stream(name, current_version=ANY, events=events(700))
    with client.subscribe_to_all(commit_position=first, include_caught_up=True) as subscription:
        got = take(subscription, 701)
        assert [e.stream_position for e in got[:700]] == list(range(1, 701))
        assert isinstance(got[700], CaughtUp)
        client.append_to_stream(name, current_version=ANY, events=events(700))
        assert [e.stream_position for e in take(subscription, 700)] == list(range(701, 1401))


def test_a_filter_that_matches_nothing_still_gets_checkpoints(
    client: KurrentDBClient, name: str
) -> None:
    with client.subscribe_to_all(
        from_end=True,
        filter_include=("Nothing",),
        include_checkpoints=True,
        window_size=5,
        checkpoint_interval_multiplier=2,
    ) as subscription:
        last = client.append_to_stream(name, current_version=ANY, events=events(40))
        got = take(subscription, 4)
    assert all(isinstance(e, Checkpoint) for e in got)
    positions = [e.commit_position or 0 for e in got]
    assert positions == sorted(set(positions))
    assert positions[-1] <= last


def test_a_filter_gets_a_checkpoint_before_it_has_caught_up(
    client: KurrentDBClient, name: str
) -> None:
    first = client.append_to_stream(name, current_version=ANY, events=[event()])
    last = client.append_to_stream(name, current_version=ANY, events=events(3))
    with client.subscribe_to_all(
        commit_position=first,
        filter_exclude=(".*",),
        include_checkpoints=True,
        include_caught_up=True,
        window_size=1,
        checkpoint_interval_multiplier=1,
    ) as subscription:
        positions = []
        while not isinstance(got := next(subscription), CaughtUp):
            assert isinstance(got, Checkpoint)
            positions.append(got.commit_position)
    assert positions == sorted(set(positions))
    # Beyond the end would be the position of an event to come, which whoever resumes would miss.
    assert positions[-1] == last


def test_without_a_filter_a_subscription_begins_with_system_events(client: KurrentDBClient) -> None:
    with client.subscribe_to_all(filter_exclude=()) as subscription:
        assert next(subscription).type == "$metadata"


def test_a_deadline_ends_a_subscription_not_its_events(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    subscription = client.subscribe_to_stream(name, timeout=3)
    assert [e.stream_position for e in take(subscription, 3)] == [0, 1, 2]
    with pytest.raises(GrpcDeadlineExceededError):
        next(subscription)


def test_a_subscription_can_be_left_at_once(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(100))
    for left in (client.subscribe_to_all(), client.subscribe_to_stream(name)):
        left.stop()
        assert list(left) == []


async def test_the_async_client_appends_reads_and_follows(server: ServerProcess, name: str) -> None:
    client = AsyncKurrentDBClient(server.uri)
    await client.connect()
    await client.append_to_stream(name, current_version=StreamState.NO_STREAM, events=events(3))
    assert len(await client.get_stream(name)) == 3
    subscription = await client.subscribe_to_stream(name, stream_position=1)
    assert (await anext(subscription)).stream_position == 2
    writes = [
        client.append_to_stream(f"{name}-{number}", current_version=ANY, events=events(2))
        for number in range(50)
    ]
    assert len(set(await asyncio.gather(*writes))) == 50
    await subscription.stop()
    await client.close()


def test_a_subscriber_that_does_not_read_holds_up_nobody(
    client: KurrentDBClient, name: str
) -> None:
    with (
        client.subscribe_to_all(from_end=True) as slow,
        client.subscribe_to_all(from_end=True) as quick,
    ):
        big = [event(data=b"x" * 100_000) for _ in range(20)]
        for _ in range(5):
            client.append_to_stream(
                name, current_version=ANY, events=[event(data=e.data) for e in big]
            )
            take(quick, 20)
        assert [e.stream_position for e in take(slow, 100)] == list(range(100))
