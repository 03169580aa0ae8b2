"""Pinned groups while consumers come and go: a key has one consumer, and limits are kept."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, RecordedEvent, StreamState
from kurrentdbclient.protos.v1 import persistent_pb2, persistent_pb2_grpc

from tests.contract.eventstore.making import event, until

ANY = StreamState.ANY
SLOTS = 5
KEYS = 8
EVENTS = 300

Key = Callable[[RecordedEvent], str]


def by_stream(received: RecordedEvent) -> str:
    return received.stream_name


def by_correlation(received: RecordedEvent) -> str:
    return str(json.loads(received.metadata)["$correlationId"])


STRATEGIES = {"Pinned": by_stream, "PinnedByCorrelation": by_correlation}


class Watch:
    """Who has which key, and what has been acknowledged."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.lock = threading.Lock()
        self.owners: dict[str, Worker] = {}
        self.acknowledged: set[int] = set()
        self.moves = 0
        self.wrong: list[str] = []

    def received(self, worker: "Worker", got: RecordedEvent) -> None:
        key = self.key(got)
        owner = self.owners.setdefault(key, worker)
        if owner is not worker:
            self.moves += 1
            if not owner.leaving:
                self.wrong.append(f"{key}: {worker.number} has it beside {owner.number}")
            self.owners[key] = worker


class Worker(threading.Thread):
    """A consumer that acknowledges what it gets until it leaves; then it drops what it holds."""

    def __init__(self, client: KurrentDBClient, stream: str, watch: Watch, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.leaving = False
        self._watch = watch
        self._subscription = client.read_subscription_to_stream(
            "g", stream, event_buffer_size=SLOTS, max_ack_batch_size=1, stopping_grace=0
        )
        self.start()

    def run(self) -> None:
        for got in self._subscription:
            with self._watch.lock:
                if self.leaving:
                    continue  # it belongs to a successor
                self._watch.received(self, got)
                self._subscription.ack(got)
                self._watch.acknowledged.add(int(got.data))

    def leave(self) -> None:
        with self._watch.lock:
            self.leaving = True
        self._subscription.stop()


@pytest.fixture
def links(client: KurrentDBClient, name: str) -> Iterator[str]:
    """A stream of links to events of several streams, with a group on it."""
    yield name
    client.delete_subscription("g", name)


def append_linked(client: KurrentDBClient, links: str, count: int) -> None:
    for number in range(count):
        source = f"{links}-{number % KEYS}"
        metadata = json.dumps({"$correlationId": f"c{number % (KEYS + 3)}"}).encode()
        written = event(data=b"%d" % number, metadata=metadata)
        client.append_to_stream(source, current_version=ANY, events=written)
    client.append_to_stream(
        links,
        current_version=ANY,
        events=[
            NewEvent(type="$>", data=f"{number // KEYS}@{links}-{number % KEYS}".encode())
            for number in range(count)
        ],
    )


def connections(
    groups: persistent_pb2_grpc.PersistentSubscriptionsStub, stream: str
) -> list[persistent_pb2.SubscriptionInfo.ConnectionInfo]:
    asked = persistent_pb2.GetInfoReq()
    asked.options.stream_identifier.stream_name = stream.encode()
    asked.options.group_name = "g"
    return list(groups.GetInfo(asked).subscription_info.connections)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_key_moves_only_when_its_consumer_leaves(
    client: KurrentDBClient,
    groups: persistent_pb2_grpc.PersistentSubscriptionsStub,
    links: str,
    strategy: str,
) -> None:
    watch = Watch(STRATEGIES[strategy])
    append_linked(client, links, EVENTS)
    client.create_subscription_to_stream(
        "g", links, resolve_links=True, consumer_strategy=strategy, read_batch_size=20
    )
    workers = [Worker(client, links, watch, number) for number in range(3)]
    born = len(workers)
    while len(watch.acknowledged) < EVENTS:
        told = connections(groups, links)
        assert all(0 <= one.in_flight_messages <= SLOTS for one in told)
        workers.pop(0).leave()
        workers.append(Worker(client, links, watch, born))
        born += 1
        seen = len(watch.acknowledged)
        until(lambda seen=seen: len(watch.acknowledged) >= min(seen + 20, EVENTS))
    for worker in workers:
        worker.leave()
    assert watch.wrong == []
    assert watch.moves > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_full_consumers_are_given_no_more(
    client: KurrentDBClient,
    groups: persistent_pb2_grpc.PersistentSubscriptionsStub,
    links: str,
    strategy: str,
) -> None:
    key = STRATEGIES[strategy]
    append_linked(client, links, 80)
    client.create_subscription_to_stream("g", links, resolve_links=True, consumer_strategy=strategy)
    consumers = [
        client.read_subscription_to_stream("g", links, event_buffer_size=SLOTS) for _ in range(2)
    ]
    held = [[next(consumer) for _ in range(SLOTS)] for consumer in consumers]
    told = connections(groups, links)
    assert [(one.in_flight_messages, one.available_slots) for one in told] == [(SLOTS, 0)] * 2
    assert not {key(got) for got in held[0]} & {key(got) for got in held[1]}
    for consumer in consumers:
        consumer.stop()
    # What they held is not lost, and within a key it comes in its order.
    numbers = defaultdict[str, list[int]](list)
    with client.read_subscription_to_stream("g", links, event_buffer_size=200) as subscription:
        for got in (next(subscription) for _ in range(80)):
            numbers[key(got)].append(int(got.data))
    assert sorted(chain.from_iterable(numbers.values())) == list(range(80))
    assert all(of_key == sorted(of_key) for of_key in numbers.values())
