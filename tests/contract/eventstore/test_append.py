"""Append in all forms: expected revisions, idempotency, batches, sizes."""

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import (
    FailedPreconditionError,
    GrpcError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

from tests.contract.eventstore.making import event, events

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "single"])
class TestExpectedRevision:
    """The unary Append (one event) and BatchAppend (a list) decide alike."""

    def append(self, client: KurrentDBClient, name: str, expected: object, batch: bool) -> int:
        new = [event()] if batch else event()
        return client.append_to_stream(name, current_version=expected, events=new)

    def test_no_stream_then_its_revisions(
        self, client: KurrentDBClient, name: str, batch: bool
    ) -> None:
        first = self.append(client, name, NO_STREAM, batch)
        assert self.append(client, name, 0, batch) > first
        assert client.get_current_version(name) == 1

    @pytest.mark.parametrize("expected", [NO_STREAM, 0, 2, 7])
    def test_wrong_revisions_are_refused(
        self, client: KurrentDBClient, name: str, batch: bool, expected: object
    ) -> None:
        client.append_to_stream(name, current_version=ANY, events=events(2))
        with pytest.raises(WrongCurrentVersionError, match="1"):
            self.append(client, name, expected, batch)
        assert len(client.get_stream(name)) == 2

    def test_a_revision_of_a_missing_stream_is_refused(
        self, client: KurrentDBClient, name: str, batch: bool
    ) -> None:
        with pytest.raises(WrongCurrentVersionError, match=f"{name}.* does not exist"):
            self.append(client, name, 3, batch)

    def test_expecting_any_revision_needs_the_stream_or_its_metadata(
        self, client: KurrentDBClient, name: str, batch: bool
    ) -> None:
        with pytest.raises(WrongCurrentVersionError):
            self.append(client, name, EXISTS, batch)
        client.set_stream_metadata(name, metadata={"a": 1})
        self.append(client, name, EXISTS, batch)
        self.append(client, name, EXISTS, batch)

    def test_a_tombstoned_stream_takes_nothing(
        self, client: KurrentDBClient, name: str, batch: bool
    ) -> None:
        self.append(client, name, ANY, batch)
        client.tombstone_stream(name, current_version=ANY)
        wanted = StreamIsDeletedError if batch else FailedPreconditionError
        with pytest.raises(wanted):
            self.append(client, name, ANY, batch)


@pytest.mark.parametrize("expected", [ANY, NO_STREAM, EXISTS, 2])
def test_a_repeated_append_answers_as_the_first(
    client: KurrentDBClient, name: str, expected: object
) -> None:
    if expected in (EXISTS, 2):
        client.append_to_stream(name, current_version=ANY, events=events(3))
    new = events(4)
    first = client.append_to_stream(name, current_version=expected, events=new)
    length = len(client.get_stream(name))
    client.append_to_stream(name, current_version=ANY, events=event())
    assert client.append_to_stream(name, current_version=expected, events=new) == first
    assert len(client.get_stream(name)) == length + 1


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_mix_of_written_and_new_is_refused(
    client: KurrentDBClient, name: str, expected: StreamState
) -> None:
    new = events(3)
    client.append_to_stream(name, current_version=NO_STREAM, events=new[:2])
    with pytest.raises(WrongCurrentVersionError):
        client.append_to_stream(name, current_version=expected, events=new)


def test_events_may_be_repeated_in_other_batches_than_they_were_written_in(
    client: KurrentDBClient, name: str
) -> None:
    new = events(4)
    positions = [
        client.append_to_stream(name, current_version=expected, events=one)
        for expected, one in zip((NO_STREAM, 0, 1), new[:3], strict=True)
    ]
    assert client.append_to_stream(name, current_version=NO_STREAM, events=new[:2]) == positions[1]
    assert client.append_to_stream(name, current_version=0, events=new[1:3]) == positions[2]
    assert client.append_to_stream(name, current_version=1, events=new[2]) == positions[2]
    with pytest.raises(WrongCurrentVersionError):
        client.append_to_stream(name, current_version=0, events=new[1:])
    assert [e.id for e in client.get_stream(name)] == [e.id for e in new[:3]]


def test_a_repeat_is_recognised_beyond_the_first_revisions(
    client: KurrentDBClient, name: str
) -> None:
    new = events(600)
    first = client.append_to_stream(name, current_version=ANY, events=new)
    early = client.get_stream(name, stream_position=9, limit=1)[0].commit_position
    assert client.append_to_stream(name, current_version=ANY, events=new[:10]) == early
    assert client.append_to_stream(name, current_version=ANY, events=new[500:]) == first
    assert client.get_current_version(name) == 599


def test_the_same_id_is_new_in_another_stream_and_twice_in_one_append(
    client: KurrentDBClient, name: str
) -> None:
    same = event()
    client.append_to_stream(name, current_version=ANY, events=[same, same])
    client.append_to_stream(name + "-b", current_version=ANY, events=[same])
    assert len(client.get_stream(name)) == 2
    assert len(client.get_stream(name + "-b")) == 1


def test_an_empty_append_writes_nothing(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=NO_STREAM, events=[])
    assert client.get_current_version(name) is NO_STREAM


def test_what_was_appended_comes_back(client: KurrentDBClient, name: str) -> None:
    name += "-straße-日本"
    binary = event("Bïnary", bytes(range(256)), content_type="application/octet-stream")
    broken = event("Broken", b"{not json", metadata=b'{"$correlationId":"c"}')
    client.append_to_stream(name, current_version=ANY, events=[binary, broken])
    got = client.get_stream(name)
    assert [(e.type, e.data, e.metadata, e.id, e.content_type) for e in got] == [
        (e.type, e.data, e.metadata, e.id, e.content_type) for e in (binary, broken)
    ]
    assert got[0].stream_name == name
    assert got[0].recorded_at is not None


def test_an_event_of_nearly_16_mib_and_none_above(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=event(data=b"x" * 16_700_000))
    assert len(client.get_stream(name)[0].data) == 16_700_000
    with pytest.raises(GrpcError):
        client.append_to_stream(name, current_version=ANY, events=event(data=b"x" * 16_777_217))
    assert client.get_current_version(name) == 0
