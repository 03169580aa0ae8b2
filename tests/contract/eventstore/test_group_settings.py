"""Settings of persistent subscriptions: what each update changes, and that it changes no more."""

from collections.abc import Iterator

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    InternalError,
    MaximumSubscriptionsReachedError,
    NotFoundError,
)

from tests.contract.eventstore.groups import Group
from tests.contract.eventstore.making import event, events, until

ANY = StreamState.ANY
DEFAULTS: dict[str, object] = {
    "resolve_links": False,
    "consumer_strategy": "DispatchToSingle",
    "message_timeout": 30.0,
    "max_retry_count": 10,
    "min_checkpoint_count": 10,
    "max_checkpoint_count": 1000,
    "checkpoint_after": 2.0,
    "max_subscriber_count": 5,
    "live_buffer_size": 500,
    "read_batch_size": 200,
    "history_buffer_size": 500,
    "extra_statistics": False,
}
STEPS: list[dict[str, object]] = [
    {"resolve_links": True},
    {"consumer_strategy": "RoundRobin"},
    {"consumer_strategy": "Pinned"},
    {"message_timeout": 15.0},
    {"max_retry_count": 5},
    {"min_checkpoint_count": 7},
    {"max_checkpoint_count": 12},
    {"checkpoint_after": 1.0},
    {"max_subscriber_count": 9},
    {"live_buffer_size": 300},
    {"read_batch_size": 250},
    {"history_buffer_size": 400},
    {"extra_statistics": True},
]


@pytest.fixture(params=[True, False], ids=["all", "stream"])
def group(request: pytest.FixtureRequest, client: KurrentDBClient, name: str) -> Iterator[Group]:
    made = Group(client, name, request.param)
    yield made
    if name in [info.group_name for info in client.list_subscriptions()]:
        made.delete()


def told(group: Group) -> dict[str, object]:
    info = group.info()
    return {key: getattr(info, key) for key in DEFAULTS}


def test_each_update_keeps_what_earlier_ones_set(group: Group) -> None:
    group.create()
    wanted = dict(DEFAULTS)
    assert told(group) == wanted
    for step in STEPS:
        group.update(**step)
        wanted |= step
        assert told(group) == wanted
    assert group.info().start_from == group.text(0)


def test_the_start_moves_only_when_it_is_given(
    client: KurrentDBClient, name: str, group: Group
) -> None:
    position = client.append_to_stream(name, current_version=ANY, events=events(3))
    at = {"commit_position": position} if group.on_all else {"stream_position": 2}
    group.create()
    for start, text in (
        ({"from_end": True}, group.text(-1)),
        (at, group.text(next(iter(at.values())))),
        ({"from_end": False}, group.text(0)),
    ):
        group.update(**start)
        assert group.info().start_from == text
        group.update(max_retry_count=3)
        assert group.info().start_from == text


def test_a_refused_update_changes_nothing(group: Group) -> None:
    with pytest.raises(NotFoundError):
        group.update()
    with pytest.raises(InternalError):
        group.create(history_buffer_size=200)
    group.create()
    with pytest.raises(AlreadyExistsError):
        group.create(max_retry_count=1)
    with pytest.raises(InternalError):
        group.update(history_buffer_size=200, max_retry_count=1)
    assert told(group) == DEFAULTS


def test_a_consumer_that_leaves_makes_room(group: Group) -> None:
    group.create(max_subscriber_count=2)
    first, second = group.read(), group.read()
    with pytest.raises(MaximumSubscriptionsReachedError):
        group.read()
    first.stop()
    assert list(first) == []
    until(lambda: len(group.info().connections) == 1)
    third = group.read()
    for consumer in (second, third):
        consumer.stop()


def test_a_deleted_group_is_gone_and_its_name_is_free(
    client: KurrentDBClient, name: str, group: Group
) -> None:
    last = client.append_to_stream(name, current_version=ANY, events=events(2))
    before = len(client.list_subscriptions())
    group.create(**group.only)
    with group.read() as subscription:
        assert [next(subscription).stream_position for _ in range(2)] == [0, 1]
    assert len(client.list_subscriptions()) == before + 1
    group.delete()
    assert len(client.list_subscriptions()) == before
    for call in (group.delete, group.info, group.read, group.replay):
        with pytest.raises(NotFoundError):
            call()
    # Groups write system events; what applications see of the log has not moved.
    assert client.get_commit_position() == last
    group.create(**group.only)
    with group.read() as subscription:
        assert next(subscription).stream_position == 0


def test_an_update_of_a_group_keeps_its_filter(client: KurrentDBClient, name: str) -> None:
    group = Group(client, name, on_all=True)
    group.create(from_end=True, **group.only)
    group.update(max_retry_count=3)
    client.append_to_stream("not-" + name, current_version=ANY, events=events(2))
    client.append_to_stream(name, current_version=ANY, events=[event()])
    with group.read() as subscription:
        assert next(subscription).stream_name == name
    group.delete()
