"""Errors that name streams and groups: any Unicode, and longer than trailers may be."""

from collections.abc import Callable
from urllib.parse import unquote

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, NewEvents, StreamState
from kurrentdbclient.events import NewRecord, StreamStateCheck
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    CancelledError,
    ConsistencyChecksFailedError,
    FailedPreconditionError,
    GrpcError,
    InternalError,
    KurrentDBClientError,
    MaximumSubscriptionsReachedError,
    MultiAppendToSameStreamError,
    NotFoundError,
    StreamIsDeletedError,
    StreamTombstonedError,
    WrongCurrentVersionError,
)
from kurrentdbclient.protos.v1 import persistent_pb2, persistent_pb2_grpc

from tests.contract.eventstore.making import event, events

ANY = StreamState.ANY
Failing = Callable[[KurrentDBClient, str], object]

NAMES = {"odd": "straße/日本 🦃 %", "long": "日本" * 1_000, "long ASCII": "a" * 9_000}

MISSING: dict[str, tuple[Failing, type[Exception]]] = {
    "read": (lambda c, n: c.get_stream(n), NotFoundError),
    "delete": (lambda c, n: c.delete_stream(n, current_version=ANY), NotFoundError),
    "index": (lambda c, n: list(c.read_index("$idx-" + n)), NotFoundError),
    "info": (lambda c, n: c.get_subscription_info(n, n), NotFoundError),
    "consume": (lambda c, n: c.read_subscription_to_stream(n, n), NotFoundError),
    "update": (lambda c, n: c.update_subscription_to_stream(n, n), NotFoundError),
    "replay": (lambda c, n: c.replay_parked_events(n, n), NotFoundError),
    "delete group": (lambda c, n: c.delete_subscription(n, n), NotFoundError),
    "strategy": (
        lambda c, n: c.create_subscription_to_stream(n, n, consumer_strategy=n),
        InternalError,
    ),
    "pattern": (lambda c, n: list(c.read_all(filter_include=[f"(?P<{n}>"])), GrpcError),
    "type": (
        lambda c, n: c.multi_append_to_stream([NewEvents(n, [event(n + " ")], ANY)]),
        KurrentDBClientError,
    ),
}

THERE: dict[str, tuple[Failing, type[Exception]]] = {
    "append": (
        lambda c, n: c.append_to_stream(n, current_version=5, events=event()),
        WrongCurrentVersionError,
    ),
    "batch": (
        lambda c, n: c.append_to_stream(n, current_version=5, events=events(2)),
        WrongCurrentVersionError,
    ),
    "delete": (lambda c, n: c.delete_stream(n, current_version=5), WrongCurrentVersionError),
    "tombstone": (lambda c, n: c.tombstone_stream(n, current_version=5), WrongCurrentVersionError),
    "session": (
        lambda c, n: c.multi_append_to_stream([NewEvents(n, [event()], 5)]),
        WrongCurrentVersionError,
    ),
    "session twice": (
        lambda c, n: c.multi_append_to_stream([NewEvents(n, [event()], ANY)] * 2),
        MultiAppendToSameStreamError,
    ),
    "records": (
        lambda c, n: c.append_records(
            [NewRecord(n, "Happened", b"{}")], checks=[StreamStateCheck(n, 5)]
        ),
        ConsistencyChecksFailedError,
    ),
    "group": (lambda c, n: c.create_subscription_to_stream(n, n), AlreadyExistsError),
    "full group": (
        lambda c, n: c.read_subscription_to_stream(n, n),
        MaximumSubscriptionsReachedError,
    ),
}

TOMBSTONED: dict[str, tuple[Failing, type[Exception]]] = {
    "read": (lambda c, n: c.get_stream(n), StreamIsDeletedError),
    "subscribe": (lambda c, n: next(c.subscribe_to_stream(n)), StreamIsDeletedError),
    "delete": (lambda c, n: c.delete_stream(n, current_version=0), StreamIsDeletedError),
    "tombstone": (lambda c, n: c.tombstone_stream(n, current_version=0), StreamIsDeletedError),
    "append": (
        lambda c, n: c.append_to_stream(n, current_version=0, events=event()),
        FailedPreconditionError,
    ),
    "batch": (
        lambda c, n: c.append_to_stream(n, current_version=0, events=events(2)),
        StreamIsDeletedError,
    ),
    "session": (
        lambda c, n: c.multi_append_to_stream([NewEvents(n, [event()], 0)]),
        StreamTombstonedError,
    ),
}


def check(
    client: KurrentDBClient, name: str, cases: dict[str, tuple[Failing, type[Exception]]]
) -> None:
    for label, (failing, kind) in cases.items():
        for _ in range(2):  # too large trailers are refused at random
            with pytest.raises(KurrentDBClientError) as raised:
                failing(client, name)
            assert type(raised.value) is kind, label


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_every_error_arrives_as_what_it_is(client: KurrentDBClient, name: str) -> None:
    check(client, name, MISSING)
    client.append_to_stream(name, current_version=ANY, events=event())
    client.create_subscription_to_stream(name, name, max_subscriber_count=1)
    consumer = client.read_subscription_to_stream(name, name)
    check(client, name, THERE)
    client.delete_subscription(name, name)
    with pytest.raises(CancelledError):
        list(consumer)
    client.tombstone_stream(name, current_version=ANY)
    check(client, name, TOMBSTONED)


def test_a_name_in_a_text_is_whole_and_in_a_trailer_quoted(
    groups: persistent_pb2_grpc.PersistentSubscriptionsStub,
) -> None:
    name = NAMES["odd"] + "\n"
    asked = persistent_pb2.GetInfoReq()
    asked.options.stream_identifier.stream_name = name.encode()
    asked.options.group_name = name + "g"
    with pytest.raises(grpc.RpcError) as refused:
        groups.GetInfo(asked)
    assert refused.value.details() == (
        f"Subscription group {name}g on stream {name} does not exist."
    )
    told = dict(refused.value.trailing_metadata())
    assert (unquote(told["stream-name"]), unquote(told["group-name"])) == (name, name + "g")
