"""Random histories against a model that fits on a screen."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import (
    KurrentDBClientError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)
from kurrentdbclient.streams import CatchupSubscription

from tests.contract.eventstore.making import take

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS


@dataclass
class Stream:
    """A stream as the rules have it."""

    ids: list[object] = field(default_factory=list)
    first: int = 0
    deleted: bool = False
    tombstoned: bool = False

    def refuses(self, expected: object) -> type[KurrentDBClientError] | None:
        """The error of a fresh append."""
        if self.tombstoned:
            return StreamIsDeletedError
        if expected is EXISTS:
            if self.deleted:
                return StreamIsDeletedError
            return None if self.ids else WrongCurrentVersionError
        if expected is ANY:
            return None
        if expected is NO_STREAM:
            return None if self.deleted or not self.ids else WrongCurrentVersionError
        return None if expected == len(self.ids) - 1 else WrongCurrentVersionError

    def readable(self) -> list[int]:
        """Revisions that a read shows."""
        return [] if self.deleted else list(range(self.first, len(self.ids)))


class Machine(RuleBasedStateMachine):
    """Appends, repeats, deletes, truncations, reads, subscriptions."""

    client: ClassVar[KurrentDBClient]
    runs: ClassVar[int] = 0
    subscriptions = Bundle("subscriptions")

    @initialize()
    def begin(self) -> None:
        Machine.runs += 1
        self.prefix = f"m{Machine.runs}x"
        self.streams = {name: Stream() for name in ("a", "b")}
        self.log: list[object] = []
        self.start = self.client.get_commit_position()
        self.batches: list[tuple[str, object, list[NewEvent], int]] = []

    def name(self, key: str) -> str:
        return f"{self.prefix}-{key}"

    keys = st.sampled_from(["a", "b"])

    @rule(
        key=keys,
        count=st.integers(1, 4),
        expected=st.one_of(st.sampled_from([ANY, NO_STREAM, EXISTS]), st.integers(-1, 1)),
    )
    def append(self, key: str, count: int, expected: object) -> None:
        stream = self.streams[key]
        if isinstance(expected, int):
            expected = max(0, len(stream.ids) - 1 + expected)
        new = [NewEvent(type="Happened", data=b"{}") for _ in range(count)]
        error = stream.refuses(expected)
        if error is not None:
            with pytest.raises(error):
                self.client.append_to_stream(self.name(key), current_version=expected, events=new)
            return
        position = self.client.append_to_stream(
            self.name(key), current_version=expected, events=new
        )
        if stream.deleted:
            stream.deleted, stream.first = False, len(stream.ids)
        stream.ids += [event.id for event in new]
        self.log += [event.id for event in new]
        self.batches.append((key, expected, new, position))

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if not self.batches:
            return
        key, expected, new, position = data.draw(st.sampled_from(self.batches))
        stream = self.streams[key]
        if stream.tombstoned or (expected is EXISTS and stream.deleted):
            return
        again = self.client.append_to_stream(self.name(key), current_version=expected, events=new)
        assert again == position

    @rule(key=keys)
    def delete(self, key: str) -> None:
        stream = self.streams[key]
        if stream.tombstoned:
            with pytest.raises(StreamIsDeletedError):
                self.client.delete_stream(self.name(key), current_version=ANY)
        elif not stream.ids:
            with pytest.raises(NotFoundError):
                self.client.delete_stream(self.name(key), current_version=ANY)
        else:
            self.client.delete_stream(self.name(key), current_version=ANY)
            stream.deleted = True

    @rule(key=keys)
    def tombstone(self, key: str) -> None:
        stream = self.streams[key]
        if len(stream.ids) < 8 or stream.tombstoned:
            return
        self.client.tombstone_stream(self.name(key), current_version=ANY)
        stream.tombstoned = True
        self.log.append(None)

    @rule(key=keys, before=st.integers(0, 6))
    def truncate(self, key: str, before: int) -> None:
        stream = self.streams[key]
        if not stream.ids or stream.deleted or stream.tombstoned:
            return
        self.client.set_stream_metadata(self.name(key), metadata={"$tb": before} if before else {})
        stream.first = before

    @rule(
        key=keys,
        backwards=st.booleans(),
        at=st.none() | st.integers(0, 12),
        limit=st.integers(1, 5),
    )
    def read(self, key: str, backwards: bool, at: int | None, limit: int) -> None:
        stream = self.streams[key]

        def get() -> list[int]:
            events = self.client.get_stream(
                self.name(key), stream_position=at, backwards=backwards, limit=limit
            )
            assert [e.id for e in events] == [stream.ids[e.stream_position] for e in events]
            return [event.stream_position for event in events]

        if stream.tombstoned:
            with pytest.raises(StreamIsDeletedError):
                get()
        elif stream.deleted or not stream.ids:
            with pytest.raises(NotFoundError):
                get()
        elif backwards:
            wanted = [r for r in reversed(stream.readable()) if at is None or r <= at]
            assert get() == wanted[:limit]
        else:
            assert get() == [r for r in stream.readable() if r >= (at or 0)][:limit]

    @rule()
    def read_all(self) -> None:
        events = list(self.client.read_all(commit_position=self.start + 1))
        mine = [event.id for event in events if event.stream_name.startswith(self.prefix)]
        assert mine == [event_id for event_id in self.log if event_id is not None]

    @rule(target=subscriptions)
    def subscribe(self) -> tuple[CatchupSubscription, int]:
        subscription = self.client.subscribe_to_all(from_end=True)
        return subscription, len(self.log)

    @rule(entry=consumes(subscriptions))
    def follow(self, entry: tuple[CatchupSubscription, int]) -> None:
        subscription, at = entry
        wanted = [event_id for event_id in self.log[at:] if event_id is not None]
        assert [event.id for event in take(subscription, len(wanted))] == wanted
        subscription.stop()


def test_random_histories(client: KurrentDBClient) -> None:
    Machine.client = client
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
