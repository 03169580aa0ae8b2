"""Parked messages that are replayed while the group goes on, and across a crash."""

import threading
from collections import Counter
from collections.abc import Callable

from kurrentdbclient import KurrentDBClient, StreamState

from tests.contract.eventstore.making import event, events, take, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY
EVENTS = 300


def parked(client: KurrentDBClient, stream: str) -> int:
    return client.get_subscription_info("g", stream).parked_message_count


def test_replays_while_events_are_consumed_and_parked(client: KurrentDBClient, name: str) -> None:
    """Every third event is parked once. Others arrive and replays run meanwhile."""
    client.create_subscription_to_stream("g", name, max_retry_count=0)
    subscription = client.read_subscription_to_stream("g", name, max_ack_delay=0.01)
    first: list[int] = []
    replayed = Counter[int]()
    wrong: list[object] = []

    def consume() -> None:
        for got in subscription:
            if got.link is None:
                first.append(got.stream_position)
                if got.stream_position % 3 == 0:
                    subscription.nack(got, "park")
                    continue
            else:
                replayed[got.stream_position] += 1
                if got.retry_count or got.link.stream_name != parked_stream:
                    wrong.append(got)
            subscription.ack(got)

    parked_stream = f"$persistentsubscription-{name}::g-parked"
    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    for _ in range(EVENTS // 10):
        client.append_to_stream(name, current_version=ANY, events=events(10))
        client.replay_parked_events("g", name)

    def all_replayed() -> bool:
        if parked(client, name):
            client.replay_parked_events("g", name)
        return len(replayed) == EVENTS // 3

    until(all_replayed)
    until(lambda: not client.get_subscription_info("g", name).outstanding_messages_count)
    assert first == list(range(EVENTS))
    assert replayed == dict.fromkeys(range(0, EVENTS, 3), 1)
    assert (wrong, parked(client, name)) == ([], 0)
    subscription.stop()
    consumer.join(10)
    client.delete_subscription("g", name)


def test_a_replayed_message_that_is_parked_again_can_be_replayed_again(
    client: KurrentDBClient, name: str
) -> None:
    client.append_to_stream(name, current_version=ANY, events=[event()])
    client.create_subscription_to_stream("g", name)
    with client.read_subscription_to_stream("g", name) as subscription:
        for _ in range(3):
            (got,) = take(subscription, 1)
            assert (got.stream_name, got.stream_position) == (name, 0)
            subscription.nack(got, "park")
            until(lambda: parked(client, name) == 1)
            client.replay_parked_events("g", name)
        (got,) = take(subscription, 1)
        subscription.ack(got)
        until(lambda: not client.get_subscription_info("g", name).outstanding_messages_count)
    assert parked(client, name) == 0
    client.delete_subscription("g", name)


def test_a_crash_in_a_replay_leaves_what_was_not_handled_parked(
    start: Callable[..., ServerProcess], name: str
) -> None:
    parked_stream = f"$persistentsubscription-{name}::g-parked"
    first = start()
    with KurrentDBClient(first.uri) as client:
        client.append_to_stream(name, current_version=ANY, events=events(6))
        client.create_subscription_to_stream("g", name)
        subscription = client.read_subscription_to_stream("g", name, max_ack_delay=0.01)
        for got in take(subscription, 6):
            subscription.nack(got, "park")
        until(lambda: parked(client, name) == 6)
        client.replay_parked_events("g", name)
        replayed = take(subscription, 6)
        for got in replayed[:2]:
            subscription.ack(got)
        until(lambda: client.get_stream_metadata(parked_stream)[0].get("$tb") == 2)
        first.kill()
    with KurrentDBClient(start().uri) as client:
        assert parked(client, name) == 4
        client.replay_parked_events("g", name)
        with client.read_subscription_to_stream("g", name) as subscription:
            again = [got.stream_position for got in take(subscription, 4)]
    assert again == [got.stream_position for got in replayed[2:]]
