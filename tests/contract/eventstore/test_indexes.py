"""Secondary indexes: ``$all`` of one category or one type."""

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import GrpcError, NotFoundError

from tests.contract.eventstore.making import event, take

ANY = StreamState.ANY


@pytest.fixture
def category(client: KurrentDBClient, name: str) -> str:
    """Two streams of a category, and one whose name only begins alike."""
    made = name.replace("-", "")
    for stream in (f"{made}-1", f"{made}-2-x", f"{made}x-1", made):
        client.append_to_stream(stream, current_version=ANY, events=[event(f"{made}A"), event()])
    client.tombstone_stream(f"{made}-2-x", current_version=ANY)
    return made


def test_an_index_of_a_category(client: KurrentDBClient, category: str) -> None:
    got = list(client.read_index(f"ce-{category}"))
    assert [e.stream_name for e in got] == [f"{category}-1"] * 2 + [f"{category}-2-x"] * 2
    assert all(e.link is None for e in got)


def test_an_index_of_a_type(client: KurrentDBClient, category: str) -> None:
    got = list(client.read_index(f"et-{category}A"))
    assert [e.stream_position for e in got] == [0, 0, 0, 0]
    assert list(client.read_index(f"et-{category}")) == []


def test_the_index_of_all_has_no_system_events(client: KurrentDBClient, category: str) -> None:
    kinds = {e.type for e in client.read_index("all")}
    assert f"{category}A" in kinds
    assert not any(kind.startswith("$") for kind in kinds)


def test_a_subscription_to_an_index_goes_on(client: KurrentDBClient, category: str) -> None:
    with client.subscribe_to_index(f"ce-{category}") as subscription:
        take(subscription, 4)
        client.append_to_stream(f"{category}-3", current_version=ANY, events=event("Live"))
        assert next(subscription).type == "Live"


def test_an_unknown_index_is_not_found(client: KurrentDBClient) -> None:
    with pytest.raises(NotFoundError):
        list(client.read_index("nonsense"))


def test_an_index_is_read_alone(client: KurrentDBClient) -> None:
    with pytest.raises(GrpcError):
        list(
            client.read_all(
                filter_include=("$idx-all", "$idx-ce-order"),
                filter_by_stream_name=True,
                filter_by_prefix=True,
            )
        )
