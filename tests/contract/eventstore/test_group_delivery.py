"""What consumers of a persistent subscription are given, in which order, and how often."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient, StreamState

from tests.contract.eventstore.groups import Group
from tests.contract.eventstore.making import event, events, take, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY
SYSTEM = r"\$.+"


@pytest.fixture(params=[True, False], ids=["all", "stream"])
def group(request: pytest.FixtureRequest, client: KurrentDBClient, name: str) -> Iterator[Group]:
    made = Group(client, name, request.param)
    yield made
    made.delete()


def test_an_answer_to_what_was_never_sent_is_ignored(
    client: KurrentDBClient, name: str, group: Group
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(2))
    group.create(**group.only)
    with group.read(max_ack_batch_size=1) as subscription:
        _, second = take(subscription, 2)
        subscription.ack(uuid4())
        subscription.nack(uuid4(), "park")
        subscription.ack(second)
        until(lambda: group.info().outstanding_messages_count == 1)
        assert group.info().parked_message_count == 0


def test_an_unknown_answer_is_a_retry(client: KurrentDBClient, name: str, group: Group) -> None:
    client.append_to_stream(name, current_version=ANY, events=[event()])
    group.create(max_retry_count=2, **group.only)
    with group.read(max_ack_batch_size=1) as subscription:
        for retries in range(3):
            got = next(subscription)
            assert got.retry_count == retries
            subscription.nack(got, "unknown")
        until(lambda: group.info().parked_message_count == 1)


@pytest.mark.parametrize(("slots", "order"), [(1, [0, 0, 1, 2]), (10, [0, 1, 2, 0])])
def test_an_event_without_an_answer_comes_again_before_new_ones(
    client: KurrentDBClient, name: str, slots: int, order: list[int]
) -> None:
    group = Group(client, name, on_all=True)
    group.create(message_timeout=3, **group.only)
    client.append_to_stream(name, current_version=ANY, events=events(3))
    seen = []
    with group.read(event_buffer_size=slots, max_ack_batch_size=1) as subscription:
        while len(seen) < 4:
            got = next(subscription)
            seen.append(got.stream_position)
            if (got.stream_position, got.retry_count) != (0, 0):
                subscription.ack(got)
    assert seen == order
    group.delete()


def test_an_event_that_is_never_answered_is_parked_and_others_follow(
    client: KurrentDBClient, name: str
) -> None:
    group = Group(client, name, on_all=True)
    group.create(message_timeout=0.1, max_retry_count=1, **group.only)
    client.append_to_stream(name, current_version=ANY, events=events(3))
    seen = []
    with group.read(event_buffer_size=1, max_ack_batch_size=1) as subscription:
        while 2 not in seen:
            got = next(subscription)
            seen.append(got.stream_position)
            if got.stream_position:
                subscription.ack(got)
    assert seen.count(0) == 2
    assert list(dict.fromkeys(seen)) == [0, 1, 2]
    until(lambda: group.info().parked_message_count == 1)
    group.delete()


def test_round_robin_takes_turns(client: KurrentDBClient, name: str, group: Group) -> None:
    group.create(consumer_strategy="RoundRobin", **group.only)
    with group.read() as first, group.read() as second:
        client.append_to_stream(name, current_version=ANY, events=events(4))
        assert [e.stream_position for e in take(first, 2)] == [0, 2]
        assert [e.stream_position for e in take(second, 2)] == [1, 3]


def test_parked_events_are_replayed_to_who_is_connected(
    client: KurrentDBClient, name: str, group: Group
) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(3))
    group.create(**group.only)
    with group.read(max_ack_batch_size=1) as subscription:
        for got in take(subscription, 3):
            subscription.nack(got, "park")
        until(lambda: group.info().parked_message_count == 3)
        group.replay()
        for expected, got in enumerate(take(subscription, 3)):
            assert (got.stream_name, got.stream_position) == (name, expected)
            assert (got.retry_count, got.link is not None) == (0, True)
            subscription.ack(got)
        until(lambda: group.info().outstanding_messages_count == 0)
    assert group.info().parked_message_count == 0


def test_links_are_resolved_on_request(client: KurrentDBClient, name: str) -> None:
    group = Group(client, "links-" + name, on_all=False)
    client.append_to_stream(name, current_version=ANY, events=events(2))
    targets = [f"1@{name}", "nonsense"]
    links = [event("$>", t.encode(), content_type="application/octet-stream") for t in targets]
    client.append_to_stream("links-" + name, current_version=ANY, events=links)
    group.create(resolve_links=True)
    with group.read() as subscription:
        resolved, malformed = take(subscription, 2)
        assert (resolved.stream_name, resolved.stream_position) == (name, 1)
        assert (malformed.type, malformed.stream_position) == ("$>", 1)
        subscription.ack(resolved.ack_id)
        subscription.ack(malformed)
        until(lambda: group.info().outstanding_messages_count == 0)
    group.delete()


def test_a_group_on_all_that_excludes_nothing_is_given_system_events(
    client: KurrentDBClient, name: str
) -> None:
    group = Group(client, name, on_all=True)
    group.create(filter_exclude=())
    with group.read() as subscription:
        assert next(subscription).type == "$metadata"
    group.delete()


@pytest.mark.parametrize("by_stream", [True, False], ids=["streams", "types"])
def test_what_a_group_on_all_excludes(client: KurrentDBClient, name: str, by_stream: bool) -> None:
    group = Group(client, name, on_all=True)
    excluded = (SYSTEM, f"{name}-.*") if by_stream else (SYSTEM, "Unwanted")
    group.create(filter_exclude=excluded, filter_by_stream_name=by_stream, from_end=True)
    client.append_to_stream(name + "-1", current_version=ANY, events=[event("Unwanted")])
    client.append_to_stream(name, current_version=ANY, events=[event("Wanted")])
    with group.read() as subscription:
        assert next(subscription).type == "Wanted"
    group.delete()


async def test_the_async_client_retries_parks_and_replays(server: ServerProcess, name: str) -> None:
    async with AsyncKurrentDBClient(server.uri) as client:
        await client.create_subscription_to_stream("group", name)
        await client.append_to_stream(name, current_version=ANY, events=events(2))
        again = []
        for answer in ("retry", "park", None):
            subscription = await client.read_subscription_to_stream("group", name)
            async with subscription:
                for expected in range(2):
                    got = await anext(subscription)
                    assert got.stream_position == expected
                    again.append(got.retry_count > 0)
                    if answer is None:
                        await subscription.ack(got)
                    else:
                        await subscription.nack(got, answer)
            if answer == "park":
                await client.replay_parked_events("group", name)
        await client.delete_subscription("group", name)
    assert again == [False, False, True, True, False, False]
