"""What the log port promises, of every log behind it: in memory, on a server, on an older one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

import pytest

from eventstore.errors import NoSuchPosition, StoreUnavailable, StreamTombstoned
from eventstore.folded_log import FoldedLog
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import (
    ANY,
    Appended,
    Conflict,
    InvalidAppend,
    JointAppend,
    JointlyAppended,
    Log,
    StreamAppend,
)
from eventstore.records import Batch, NewRecord, RawRecord
from projections.memory.last_event import Found, LastEvent, look_for
from tests.contract.eventstore.process import ServerProcess

DELETED = b'{"$tb":9223372036854775807}'


@pytest.fixture(params=["memory", "server", "server without append_records"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    server: ServerProcess = request.getfixturevalue("server")
    connected = EventLog(server.uri, atomic=False if "without" in request.param else None)
    yield connected
    await connected.close()


@pytest.fixture
def stream() -> str:
    return f"order-{uuid4()}"


def records(count: int = 1, event_type: str = "Placed", data: bytes = b"{}") -> list[NewRecord]:
    return [NewRecord(event_type, data, {"by": "me"}, str(uuid4())) for _ in range(count)]


async def read(log: Log, stream: str, **options: object) -> list[int]:
    return [raw.revision async for raw in log.read_stream(stream, **options)]  # type: ignore[arg-type]


async def append(log: Log, stream: str, expected: int | None, count: int = 1) -> object:
    [answer] = await log.append([StreamAppend(stream, expected, records(count))])
    return answer


async def some(batches: AsyncIterator[Batch], number: int) -> AsyncIterator[RawRecord]:
    """Yield the first events of a subscription."""
    async for batch in batches:
        for raw in batch.records:
            yield raw
            number -= 1
            if not number:
                return


async def everything(log: Log, stream: str) -> list[RawRecord]:
    return [raw async for raw in log.read_all([stream, f"$${stream}"])]


async def test_records_are_appended_where_they_are_expected(log: Log, stream: str) -> None:
    assert isinstance(await append(log, stream, None, 2), Appended)
    assert isinstance(await append(log, stream, 1), Appended)
    assert isinstance(await append(log, stream, ANY), Appended)
    for expected in (None, 0, 7):
        assert isinstance(await append(log, stream, expected), Conflict)
    assert await read(log, stream) == [0, 1, 2, 3]
    assert await read(log, stream, after=1) == [2, 3]
    assert await read(log, stream, backwards=True, limit=2) == [3, 2]
    assert await read(log, stream, backwards=True, after=2) == [1, 0]


async def test_a_record_is_the_same_whichever_way_it_is_read(log: Log, stream: str) -> None:
    """So is its time, which is in units of a tenth of a microsecond."""
    await append(log, stream, None)
    for revision in range(19):
        await append(log, stream, revision)
    ways = {
        "a stream": log.read_stream(stream),
        "a stream, briefly": log.read_stream(stream, limit=20),
        "a stream, from its end": log.read_stream(stream, backwards=True),
        "all": log.read_all([stream]),
        "all, briefly": log.read_all([stream], limit=20),
        "all, from its end": log.read_all([stream], backwards=True),
    }
    found = {way: sorted([raw async for raw in reading]) for way, reading in ways.items()}
    async with aclosing(log.subscribe([stream], None)) as batches:
        found["a subscription"] = [raw async for raw in some(batches, 20)]
    one, *others = found.values()
    assert [raw.revision for raw in one] == list(range(20))
    assert [way for way, other in zip([*found][1:], others, strict=True) if other != one] == []


async def test_a_subscription_from_beyond_the_end_is_refused_as_such(log: Log, stream: str) -> None:
    await append(log, stream, None)
    end = await log.end_position([stream])
    async with aclosing(log.subscribe([stream], end)) as batches:
        assert (await anext(batches)).records == []
    with pytest.raises(NoSuchPosition):
        async with aclosing(log.subscribe([stream], end + 1_000_000)) as batches:
            await anext(batches)
    assert await FoldedLog(log, [stream]).has(end)
    assert not await FoldedLog(log, [stream]).has(end + 1_000_000)
    checkpoints = {"there": end, "beyond": end + 1_000_000}
    nothing = FoldedLog(log, [f"{stream}-with-nothing"])
    assert await nothing.beyond_end(checkpoints) == {"beyond": end + 1_000_000}


async def test_a_deleted_stream_reads_as_if_it_never_was(log: Log, stream: str) -> None:
    await append(log, stream, None, 3)
    assert await log.delete_stream(stream)
    assert await read(log, stream) == []
    assert await read(log, stream, limit=10) == []
    assert await read(log, stream, backwards=True, limit=1) == []
    end = await log.end_position(None)
    assert not await log.delete_stream(stream)
    assert await log.end_position(None) == end
    assert await log.delete_stream(stream, tombstone=True)


async def test_a_deleted_stream_begins_again_behind_its_end(log: Log, stream: str) -> None:
    await append(log, stream, None, 3)
    await log.delete_stream(stream)
    answer = await append(log, stream, None, 2)
    assert isinstance(answer, Appended)
    assert answer.last_revision == 4
    assert await read(log, stream) == [3, 4]
    assert await read(log, stream, limit=10) == [3, 4]
    assert await read(log, stream, backwards=True, limit=10) == [4, 3]
    assert isinstance(await append(log, stream, None), Conflict)
    assert isinstance(await append(log, stream, 4), Appended)


async def test_a_tombstoned_stream_is_gone_for_good(log: Log, stream: str) -> None:
    await append(log, stream, None, 3)
    assert await log.delete_stream(stream, tombstone=True)
    for options in ({}, {"limit": 10}, {"backwards": True, "limit": 1}):
        with pytest.raises(StreamTombstoned, match=stream):
            await read(log, stream, **options)
        with pytest.raises(StreamTombstoned, match=stream):
            await read(log, f"$${stream}", **options)
    for expected in (None, 2, ANY):
        assert isinstance(await append(log, stream, expected), Conflict)
    assert not await log.delete_stream(stream, tombstone=True)
    assert not await log.delete_stream(stream)


async def test_what_is_not_there_can_be_deleted(log: Log, stream: str) -> None:
    assert not await log.delete_stream(stream)
    assert isinstance(await append(log, stream, None), Appended)
    assert await log.delete_stream(f"{stream}-2", tombstone=True)
    assert isinstance(await append(log, f"{stream}-2", None), Conflict)


async def test_readers_of_all_are_told_what_was_deleted(log: Log, stream: str) -> None:
    await append(log, stream, None, 2)
    await log.delete_stream(stream)
    await append(log, stream, None)
    await log.delete_stream(stream, tombstone=True)
    told = await everything(log, stream)
    assert [(raw.stream, raw.event_type) for raw in told] == [
        (stream, "Placed"),
        (stream, "Placed"),
        (f"$${stream}", "$metadata"),
        (stream, "Placed"),
        (f"$${stream}", "$metadata"),
        (stream, "$streamDeleted"),
    ]
    assert told[2].data == DELETED
    assert told[4].data.replace(b" ", b"") == b'{"$tb":2}'
    assert [raw.revision for raw in told] == [0, 1, 0, 2, 1, 2**63 - 1]


async def test_streams_whose_names_differ_only_in_case_are_different(log: Log) -> None:
    name = f"stock-{uuid4()}"
    streams = [f"{name}-tea", f"{name}-TEA", f"{name}-Tea"]
    answers = await log.append([StreamAppend(each, None, records()) for each in streams])
    assert [type(answer) for answer in answers] == [Appended] * 3
    for each in streams:
        assert await read(log, each) == [0]


@pytest.fixture(params=["memory", "server"])
async def atomic(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """A log that takes appends of several streams, all or nothing."""
    if request.param == "memory":
        yield MemoryLog()
        return
    server: ServerProcess = request.getfixturevalue("server")
    connected = EventLog(server.uri)
    yield connected
    await connected.close()


def joint(expected: dict[str, int | None], *written: str) -> JointAppend:
    """A joint append of a record for each of `written`."""
    return JointAppend(expected, [(each, *records()) for each in written])


async def test_a_joint_append_is_written_in_its_order_where_every_stream_is_as_expected(
    atomic: Log, stream: str
) -> None:
    one, two, read_only = f"{stream}-1", f"{stream}-2", f"{stream}-3"
    assert await atomic.is_atomic()
    await append(atomic, read_only, None, 3)
    [answer] = await atomic.append(
        [joint({one: None, read_only: 2, two: None}, two, one, two, one, one)]
    )
    assert isinstance(answer, JointlyAppended)
    assert answer.revisions == {one: 2, two: 1}
    told = [raw async for raw in atomic.read_all([one, two])]
    assert [raw.stream for raw in told] == [two, one, two, one, one]
    assert answer.position >= told[-1].position
    assert await read(atomic, read_only) == [0, 1, 2]


async def test_a_joint_append_with_one_stream_at_another_revision_writes_nothing_and_names_it(
    atomic: Log, stream: str
) -> None:
    one, two, read_only = f"{stream}-1", f"{stream}-2", f"{stream}-3"
    await append(atomic, read_only, None, 3)
    for expected, moved in (
        ({one: None, two: None, read_only: 1}, (read_only,)),
        ({one: None, two: 0, read_only: 2}, (two,)),
        ({one: 4, two: None, read_only: None}, (one, read_only)),
    ):
        answers = await atomic.append(
            [
                StreamAppend(f"{stream}-before", None, records()),
                joint(expected, one, two),
                StreamAppend(f"{stream}-behind", None, records()),
            ]
        )
        conflict = answers[1]
        assert isinstance(conflict, Conflict)
        assert set(conflict.streams) == set(moved)
        assert [type(answers[0]), type(answers[2])] == [Appended, Appended]
        assert await read(atomic, one) == await read(atomic, two) == []
        for other in ("before", "behind"):
            await atomic.delete_stream(f"{stream}-{other}")


async def test_many_joint_appends_go_together(atomic: Log, stream: str) -> None:
    appends = [
        joint({f"{stream}-{n}a": 0 if n == 3 else None, f"{stream}-{n}b": None}, f"{stream}-{n}a")
        for n in range(20)
    ]
    answers = await atomic.append([*appends, StreamAppend(stream, None, records())])
    kinds = [type(answer) for answer in answers]
    assert kinds == [JointlyAppended] * 3 + [Conflict] + [JointlyAppended] * 16 + [Appended]


async def test_a_stream_that_only_differs_in_case_waits_for_the_next_call(
    atomic: Log, stream: str
) -> None:
    answers = await atomic.append(
        [
            joint({f"{stream}-a": None, f"{stream}-x": None}, f"{stream}-a"),
            joint({f"{stream}-A": None, f"{stream}-X": None}, f"{stream}-X"),
            StreamAppend(f"{stream}-x", None, records()),
        ]
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [JointlyAppended, JointlyAppended, Appended]


async def test_a_joint_append_to_a_deleted_stream_continues_its_revisions(
    atomic: Log, stream: str
) -> None:
    one, two = f"{stream}-1", f"{stream}-2"
    await append(atomic, one, None, 3)
    await atomic.delete_stream(one)
    [answer] = await atomic.append([joint({one: None, two: None}, one, two, one)])
    assert isinstance(answer, JointlyAppended)
    assert answer.revisions == {one: 4, two: 0}
    assert await read(atomic, one) == [3, 4]


async def test_a_joint_append_that_expects_a_tombstoned_stream_is_a_conflict(
    atomic: Log, stream: str
) -> None:
    one, two = f"{stream}-1", f"{stream}-2"
    await append(atomic, one, None)
    await atomic.delete_stream(one, tombstone=True)
    [answer] = await atomic.append([joint({one: 0, two: None}, two)])
    assert isinstance(answer, Conflict)
    assert answer.streams == (one,)
    assert await read(atomic, two) == []


async def test_a_batch_may_have_any_number_of_streams_at_other_revisions(
    stream: str, server: ServerProcess
) -> None:
    log = EventLog(server.uri)
    appends = [
        joint({f"{stream}-{n}-{m}": 7 for m in range(16)}, f"{stream}-{n}-0") for n in range(40)
    ]
    assert {type(answer) for answer in await log.append(appends)} == {Conflict}
    await log.close()


async def test_a_log_without_append_records_takes_no_joint_append(
    stream: str, server: ServerProcess
) -> None:
    log = EventLog(server.uri, atomic=False)
    assert not await log.is_atomic()
    answers = await log.append(
        [joint({f"{stream}-1": None}, f"{stream}-1"), StreamAppend(stream, None, records())]
    )
    assert isinstance(answers[0], InvalidAppend)
    assert "append_records" in answers[0].reason
    assert isinstance(answers[1], Appended)
    assert await read(log, f"{stream}-1") == []
    await log.close()


async def test_an_invalid_append_harms_no_other(stream: str, server: ServerProcess) -> None:
    log = EventLog(server.uri)
    bad = [
        StreamAppend(f"{stream}-bad", None, records(event_type="white space")),
        StreamAppend(f"{stream}-large", None, records(data=b"x" * 17_000_000)),
        StreamAppend(f"{stream}-\ud800", None, records()),
        StreamAppend("order-" + "x" * 70_000, None, records()),
    ]
    good = [StreamAppend(f"{stream}-{n}", None, records()) for n in range(9)]
    taken = StreamAppend(f"{stream}-0", 5, records())
    answers = await log.append([*good[:4], *bad, taken._replace(stream=f"{stream}-x"), *good[4:]])
    kinds = [type(answer) for answer in answers]
    assert kinds == [Appended] * 4 + [InvalidAppend] * 4 + [Conflict] + [Appended] * 5
    for each in good:
        assert await read(log, each.stream) == [0]
    await log.close()


async def test_a_subscription_may_be_to_some_event_types_of_some_streams(
    log: Log, stream: str
) -> None:
    for name, event_type in (
        (stream, "Wanted"),
        (stream, "WantedToo"),
        (f"other-{stream}", "Wanted"),
        (stream, "Unwanted"),
        (stream, "Wanted"),
    ):
        await log.append([StreamAppend(name, ANY, records(event_type=event_type))])
    end = await log.end_position([stream])
    found: list[RawRecord] = []
    async with asyncio.timeout(60):
        async with aclosing(log.subscribe([stream], None, event_types=["Wanted"])) as batches:
            async for batch in batches:
                found += batch.records
                if found and found[-1].position == end:
                    break
    assert [(raw.stream, raw.event_type) for raw in found] == [(stream, "Wanted")] * 2


async def test_all_is_read_backwards_from_its_end_and_from_a_position(
    log: Log, stream: str
) -> None:
    await append(log, stream, None, 4)
    [first, second, third, last] = [raw.position for raw in await everything(log, stream)]

    async def back(**how: int) -> list[int]:
        return [raw.position async for raw in log.read_all([stream], backwards=True, **how)]

    assert await back() == [last, third, second, first]
    assert await back(limit=2) == [last, third]
    assert await back(after=third) == [second, first]
    assert await back(after=third, limit=1) == [second]
    assert await back(after=first) == []


async def test_a_delivered_event_is_found_on_the_log_until_its_stream_is_deleted(
    log: Log, stream: str
) -> None:
    await append(log, stream, None, 2)
    prefixes = [stream, f"$${stream}"]
    async with aclosing(log.subscribe(prefixes, None)) as batches:
        events = [LastEvent.of(raw) async for raw in some(batches, 2)]
    for event in events:
        assert await look_for(event, log, prefixes) is Found.THERE
        other = event._replace(digest=b"of another")
        assert await look_for(other, log, prefixes) is Found.LOST
    last = events[-1]
    lost = last._replace(revision=2)
    assert await look_for(lost, log, prefixes) is Found.LOST
    beyond = lost._replace(position=last.position + 1)
    assert await look_for(beyond, log, prefixes) is Found.BEYOND
    await log.delete_stream(stream)
    assert await look_for(last, log, prefixes) is Found.CUT
    await log.delete_stream(stream, tombstone=True)
    assert await look_for(last, log, prefixes) is Found.CUT


@pytest.mark.parametrize(("there", "taken"), [(1000, 1), (8, 1), (300, 295)])
async def test_a_read_that_ends_because_another_call_reconnects_is_not_taken_for_complete(
    server: ServerProcess, stream: str, there: int, taken: int
) -> None:
    """Also if all events have arrived already, and wait in the client."""
    log = EventLog(server.uri)
    await append(log, stream, None, there)
    async with aclosing(log.read_stream(stream)) as reading:
        for _ in range(taken):
            await anext(reading)
        client = await log._connected()
        await client.reconnect()
        with pytest.raises(StoreUnavailable):
            assert [raw.revision async for raw in reading] == [*range(taken, there)]
    assert len(await read(log, stream)) == there
    await log.close()


async def test_a_store_on_this_machine_is_not_connected_to_through_a_proxy(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    log = EventLog(server.uri)
    try:
        assert await log.end_position(None) >= 0
    finally:
        await log.close()
