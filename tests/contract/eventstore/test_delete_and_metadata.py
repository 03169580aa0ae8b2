"""Soft delete, tombstone, undelete, and the metadata that decides what is readable."""

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

from tests.contract.eventstore.making import event, events, until

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS
MAX = 2**63 - 1


@pytest.fixture(autouse=True)
def five(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=NO_STREAM, events=events(5))


def test_a_soft_deleted_stream_reads_as_missing(client: KurrentDBClient, name: str) -> None:
    client.delete_stream(name, current_version=4)
    with pytest.raises(NotFoundError):
        client.get_stream(name)
    assert client.get_current_version(name) is NO_STREAM
    assert client.get_stream_metadata(name) == ({"$tb": MAX}, 0)


@pytest.mark.parametrize("expected", [ANY, NO_STREAM, 4])
def test_an_append_revives_and_continues_the_numbering(
    client: KurrentDBClient, name: str, expected: object
) -> None:
    client.set_stream_metadata(name, metadata={"owner": "me"})
    client.delete_stream(name, current_version=ANY)
    client.append_to_stream(name, current_version=expected, events=[event()])
    assert [e.stream_position for e in client.get_stream(name)] == [5]
    assert client.get_stream_metadata(name)[0] == {"$tb": 5}


@pytest.mark.parametrize(
    ("expected", "error"), [(EXISTS, StreamIsDeletedError), (2, WrongCurrentVersionError)]
)
def test_what_a_soft_deleted_stream_refuses(
    client: KurrentDBClient, name: str, expected: object, error: type[Exception]
) -> None:
    client.delete_stream(name, current_version=ANY)
    with pytest.raises(error):
        client.append_to_stream(name, current_version=expected, events=[event()])
    with pytest.raises(error):
        client.delete_stream(name, current_version=expected)
    client.delete_stream(name, current_version=ANY)
    client.delete_stream(name, current_version=4)


def test_a_recreated_stream_can_be_deleted_again(client: KurrentDBClient, name: str) -> None:
    client.delete_stream(name, current_version=4)
    client.append_to_stream(name, current_version=NO_STREAM, events=[event()])
    client.append_to_stream(name, current_version=5, events=[event()])
    assert client.get_current_version(name) == 6
    assert [e.stream_position for e in client.get_stream(name)] == [5, 6]
    with pytest.raises(WrongCurrentVersionError):
        client.delete_stream(name, current_version=4)
    assert len(client.get_stream(name)) == 2
    client.delete_stream(name, current_version=6)
    with pytest.raises(NotFoundError):
        client.get_stream(name)
    with pytest.raises(WrongCurrentVersionError):
        client.delete_stream(name, current_version=5)
    client.tombstone_stream(name, current_version=6)
    with pytest.raises(StreamIsDeletedError):
        client.get_current_version(name)


def test_metadata_revives_an_empty_stream(client: KurrentDBClient, name: str) -> None:
    client.delete_stream(name, current_version=ANY)
    client.set_stream_metadata(name, metadata={"a": 1})
    assert client.get_stream_metadata(name)[0] == {"a": 1, "$tb": 5}
    assert client.get_stream(name) == ()


def test_writing_metadata_of_a_soft_deleted_stream_makes_it_exist_again_and_empty(
    client: KurrentDBClient, name: str
) -> None:
    client.delete_stream(name, current_version=EXISTS)
    metadata, version = client.get_stream_metadata(name)
    assert metadata == {"$tb": MAX}
    client.set_stream_metadata(name, metadata={**metadata, "a": 1}, current_version=version)
    # Whatever the caller wrote back as $tb: the stream is there again, and empty.
    assert client.get_stream_metadata(name)[0] == {"a": 1, "$tb": 5}
    assert client.get_stream(name) == ()


def test_deletes_of_missing_streams(client: KurrentDBClient, name: str) -> None:
    with pytest.raises(NotFoundError):
        client.delete_stream("no-" + name, current_version=ANY)
    with pytest.raises(NotFoundError):
        client.tombstone_stream("no-" + name, current_version=EXISTS)
    client.tombstone_stream("no-" + name, current_version=NO_STREAM)


def test_a_wrong_revision_does_not_delete(client: KurrentDBClient, name: str) -> None:
    for delete in (client.delete_stream, client.tombstone_stream):
        with pytest.raises(WrongCurrentVersionError):
            delete(name, current_version=3)
    assert len(client.get_stream(name)) == 5


def test_a_tombstoned_stream_can_never_be_used_again(client: KurrentDBClient, name: str) -> None:
    client.tombstone_stream(name, current_version=4)
    for call in (
        lambda: client.get_stream(name),
        lambda: client.get_stream_metadata(name),
        lambda: client.delete_stream(name, current_version=ANY),
        lambda: client.tombstone_stream(name, current_version=ANY),
        lambda: client.append_to_stream(name, current_version=NO_STREAM, events=events(2)),
        lambda: client.append_to_stream(name, current_version=2**63 - 1, events=events(2)),
    ):
        with pytest.raises(StreamIsDeletedError):
            call()
    # Metadata can be written all the same, at an exact revision too; it cannot be read.
    client.set_stream_metadata(name, metadata={"a": 1}, current_version=NO_STREAM)
    client.set_stream_metadata(name, metadata={"a": 2}, current_version=0)
    with pytest.raises(StreamIsDeletedError):
        client.get_stream_metadata(name)
    last = list(client.read_all(filter_exclude=(), backwards=True, limit=5))
    assert "$streamDeleted" in [e.type for e in last]


def test_max_count_and_truncate_before(client: KurrentDBClient, name: str) -> None:
    client.set_stream_metadata(name, metadata={"$maxCount": 2})
    assert [e.stream_position for e in client.get_stream(name)] == [3, 4]
    client.append_to_stream(name, current_version=4, events=[event()])
    assert [e.stream_position for e in client.get_stream(name, backwards=True)] == [5, 4]
    client.set_stream_metadata(name, metadata={"$tb": 5})
    assert [e.stream_position for e in client.get_stream(name)] == [5]
    client.set_stream_metadata(name, metadata={"$tb": 99})
    assert client.get_stream(name) == ()
    assert client.append_to_stream(name, current_version=5, events=[event()])
    for odd in ({"$maxCount": "two"}, {"$maxCount": -1}, {"$tb": True}, {"$acl": {"$r": "me"}}):
        client.set_stream_metadata(name, metadata=odd)
        assert len(client.get_stream(name)) == 7


def test_max_age_hides_old_events(client: KurrentDBClient, name: str) -> None:
    client.set_stream_metadata(name, metadata={"$maxAge": 3600})
    assert len(client.get_stream(name)) == 5
    client.set_stream_metadata(name, metadata={"$maxAge": 1})
    until(lambda: client.get_stream(name) == ())
    client.append_to_stream(name, current_version=4, events=[event()])
    assert [e.stream_position for e in client.get_stream(name)] == [5]


def test_only_the_newest_metadata_of_a_stream_counts(client: KurrentDBClient, name: str) -> None:
    assert client.get_stream_metadata("other" + name) == ({}, NO_STREAM)
    client.set_stream_metadata(name, metadata={"a": 1}, current_version=NO_STREAM)
    with pytest.raises(WrongCurrentVersionError):
        client.set_stream_metadata(name, metadata={"a": 2}, current_version=5)
    client.set_stream_metadata(name, metadata={"a": 3}, current_version=0)
    assert client.get_stream_metadata(name) == ({"a": 3}, 1)
    assert [e.stream_position for e in client.get_stream("$$" + name)] == [1]
